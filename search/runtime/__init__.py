"""This process: started, watched, and patient with servers that do not answer."""
