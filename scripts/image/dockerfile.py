"""Parses the Dockerfile and .dockerignore: instructions, variables, patterns."""

import json
import re
import shlex

from image.common import fail


class Instruction:
    def __init__(self, line, name, flags, text):
        self.line, self.name, self.flags, self.text = line, name, flags, text

    def __str__(self):
        flags = "".join(f"--{key}={value} " for key, value in self.flags.items())
        return f"{self.name} {flags}{self.text}"

    def words(self):
        """The arguments of an instruction: its JSON array, or its words."""
        return exec_form(self.text) or shlex.split(self.text)


def exec_form(text):
    if not text.startswith("["):
        return None
    try:
        words = json.loads(text)
    except ValueError:
        return None
    return words if all(isinstance(word, str) for word in words) else None


def parse(path):
    """Instructions of a Dockerfile, without comments and with lines joined."""
    instructions, parts, begin = [], [], 0
    for number, line in enumerate(path.read_text().splitlines(), 1):
        if line.lstrip().startswith("#") or (not line.strip() and not parts):
            continue
        begin = begin if parts else number
        parts.append(line[:-1] if line.endswith("\\") else line)
        if line.endswith("\\"):
            continue
        name, _, text = " ".join(part.strip() for part in parts).partition(" ")
        parts, flags, text = [], {}, text.strip()
        while match := re.match(r"--([a-z-]+)=(\S+)\s+", text) if name.upper() != "RUN" else None:
            flags[match[1]] = match[2]
            text = text[match.end():]
        if name.upper() == "RUN" and text.startswith(("--", "<<")):
            fail(f"Dockerfile:{begin}: RUN with flags or a here-document is not something that this can do")
        instructions.append(Instruction(begin, name.upper(), flags, text))
    return instructions


def substitute(text, values):
    """$NAME, ${NAME}, ${NAME:-else}; a backslash before $ keeps it."""

    def value(match):
        if match[0].startswith("\\"):
            return match[0][1:]
        return values.get(match[1] or match[2]) or match[3] or ""

    return re.sub(r"\\\$|\$(?:(\w+)|\{(\w+)(?::-([^}]*))?\})", value, text)


class Ignored:
    """.dockerignore: the last pattern that matches a path, or a folder above it, counts."""

    def __init__(self, path):
        lines = path.read_text().splitlines() if path.exists() else []
        lines = [line.strip() for line in lines if line.strip() and not line.startswith("#")]
        self.patterns = [(line.startswith("!"), self.pattern(line.lstrip("!").strip("/"))) for line in lines]

    @staticmethod
    def pattern(text):
        out = ""
        for part in re.split(r"(\*\*/?|\*|\?)", text):
            out += {"**/": "(?:.*/)?", "**": ".*", "*": "[^/]*", "?": "[^/]"}.get(part) or re.escape(part)
        return re.compile(out + "(?:/.*)?")

    def __contains__(self, path):
        ignored = False
        for keeps, pattern in self.patterns:
            if pattern.fullmatch(path):
                ignored = not keeps
        return ignored
