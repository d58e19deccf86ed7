"""Text that leaves, to a terminal, a tag or an artifact: passwords are hidden, and no character steers a terminal."""

import re

WORD, WHOLE = 400, 4000  # characters of a word, of a line, that are shown
KEPT = 160  # of a word that is longer
# after ://, up to the last @ before a blank or a quote: user:password, with a / too; a token; user:pass word
USERINFO = re.compile(
    r'(?<=://)(?:([^:/?#@\s"]{0,200}):[^\s"]{0,2000}@|[^/?#\s"]{1,2000}@'
    r'|([^:/?#@\s"]{0,200}):(?!\s|\d{1,5}(?:[/?#\s"\']|$))(?:(?!://)[^@"\n]){0,200}@)'
)
SECRET = re.compile(  # a setting whose name ends so, or is written with a %61
    r"((?:password|passwd|passphrase|pwd|secret|token|api[_-]?key)=|[?&][^=&\s\"]{0,40}%[^=&\s\"]{0,40}=)"
    r"""(\\*'(?:[^'\\]|\\.)*'|[^\s&"]*?(?='?(?:[\s&"]|$)))""",
    re.IGNORECASE,
)


def hide(text: str) -> str:
    """Put *** for what an address or a setting in the text keeps secret.

    Of scheme://user:password@host the password, of scheme://token@host the token, of ?password=x, token=x and the like
    the value. Rather too much is hidden than too little.
    """
    text = USERINFO.sub(lambda found: f"{(found[1] or found[2]) + ':' if found[1] or found[2] else ''}***@", text)
    return SECRET.sub(r"\1***", text)


def hide_of(address: str, text: str) -> str:
    """What a library says of an address, with no part of its password: read wrongly, one is a host or a port."""
    text = hide(text)
    for found in re.finditer(r"://[^:/?#@\s]*:(.*)@|(?:password|passwd|pwd|token)=([^&\s]*)", address):
        for part in re.split(r"[@:/?#&=]", found[1] or found[2] or ""):
            text = text.replace(part, "***") if len(part) > 1 else text
    return text


def printable(text: str) -> str:
    """The text with each character that a terminal would obey, or not show, as U+FFFD; lines stay lines."""
    if text.isprintable():
        return text
    return "".join(each if each.isprintable() or each in "\n\t" else "\ufffd" for each in text)


def line(text: str) -> str:
    """The text as one line for a terminal: hidden, printable, what is too long cut."""
    text = printable(hide(" ".join(text.split())))
    text = re.sub(rf"\S{{{WORD},}}", lambda found: f"{found[0][:KEPT]}... ({len(found[0])} characters)", text)
    return text if len(text) <= WHOLE else f"{text[:KEPT]} ... ({len(text)} characters) ... {text[-WHOLE // 4 :]}"


def hidden(name: str, content: bytes) -> bytes:
    """A file's content, with what it keeps secret hidden where it is text."""
    return hide(content.decode()).encode() if name.endswith((".txt", ".json", ".yaml", ".csv", ".log")) else content
