"""What others wrote, before it meets a terminal.

Names, logs and errors come from other organizations and from hostile code: control characters
would move the cursor, change titles, hide or reverse words. Exactly what was written is in --json
and in the Python objects.
"""


def harmless(text: str) -> str:
    """The text with line ends as they are meant and `?` for whatever a terminal would act on."""
    lines = text.replace("\r\n", "\n").replace("\r", "\n")
    return "".join(c if c.isprintable() or c in "\n\t" else "?" for c in lines)
