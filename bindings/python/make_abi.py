"""Makes framefd/_abi.py of include/framefd.h: `make header` runs it. What a type of C is in
ctypes is decided here, for structs, callbacks and functions alike."""

from __future__ import annotations

import pathlib
import re
import textwrap
from typing import NamedTuple

HERE = pathlib.Path(__file__).resolve().parent
HEADER = HERE.parents[1] / "include" / "framefd.h"
MODULE = HERE / "framefd" / "_abi.py"

WIDTH = 95

NUMBERS = {
    "bool": "c_bool",
    "int": "c_int",
    "size_t": "c_size_t",
    "int16_t": "c_int16",
    "int32_t": "c_int32",
    "int64_t": "c_int64",
    "uint16_t": "c_uint16",
    "uint32_t": "c_uint32",
    "uint64_t": "c_uint64",
}
VALUES = {"UINT64_MAX": "2**64 - 1", "INT32_MIN": "-(2**31)"}

COMMENT = r"(?:/\*(?P<comment>(?:(?!\*/).)*)\*/\n)?"
DEFINE = re.compile(COMMENT + r"#define (?P<name>\w+) (?P<value>\(?-?\w+\)?)\n", re.S)
STRUCT = re.compile(r"^struct (\w+) \{\n(.*?)^\};\n", re.M | re.S)
FUNCTION = re.compile(r"^(\w[\w ]*?[ *]+)(\w+)\(([^;{]*)\);", re.M)
CALLBACK = re.compile(r"(?P<result>.*)\(\*(?P<name>\w+)\)\((?P<parameters>.*)\)$", re.S)

START = '''\
"""The C interface: made of include/framefd.h by `make header`, do not edit."""

from __future__ import annotations

import enum
from ctypes import (
{imports}
)
from typing import Any


class SizedStructure(Structure):
    """A struct whose first member is its size; all else is zero, the defaults."""

    def __init__(self, **members: Any) -> None:
        super().__init__(size=sizeof(type(self)), **members)
'''

CODES = '''\
class ErrorCode(enum.IntEnum):
    """The library's ``FRAME_E...`` numbers. They never change their meaning.

    Numbers of -100 and below were reported by the peer.
    """
'''


class Declared(NamedTuple):
    """A member of a struct or a parameter, with its type in C, such as "const char *"."""

    name: str
    c_type: str


class Header:
    """The declarations of a header in C, and what they are in Python."""

    def __init__(self, text: str) -> None:
        self.text = text
        code = re.sub(r"/\*.*?\*/", "", text, flags=re.S)
        self.structs = {
            name: [declared(member) for member in body.split(";") if member.strip()]
            for name, body in STRUCT.findall(code)
        }
        self.functions = FUNCTION.findall(code)
        self.callbacks: list[str] = []

    def module(self) -> str:
        """All of _abi.py."""
        structs = [block for name in self.in_order() for block in self.struct(name)]
        blocks = [self.constants(), self.codes(), *structs, *self.prototypes()]
        body = "\n\n\n".join(block.strip("\n") for block in blocks) + "\n"
        used = {"Structure", "sizeof", *re.findall(r"\b(c_\w+|POINTER|CFUNCTYPE)\b", body)}
        imports = sorted(used, key=lambda name: (not name.isupper(), name[0].islower(), name))
        start = START.format(imports="\n".join(f"    {name}," for name in imports))
        return f"{start}\n\n{body}"

    def constants(self) -> str:
        found = DEFINE.finditer(self.text)
        lines = [
            f"{each['name']} = {VALUES.get(each['value'], each['value'].strip('()'))}"
            for each in found
            if not each["name"].startswith("FRAME_E")
        ]
        return "\n".join(lines)

    def codes(self) -> str:
        text = CODES
        for each in DEFINE.finditer(self.text):
            if each["name"].startswith("FRAME_E"):
                meaning = " ".join(each["comment"].replace("\n *", " ").split())
                text += f"\n    {each['name'][7:]} = {each['value'].strip('()')}\n"
                text += textwrap.indent(docstring(meaning.replace("`", "``")), "    ")
        return text

    def in_order(self) -> list[str]:
        """The structs, each behind those that its members name."""
        done: list[str] = []

        def add(name: str) -> None:
            if name not in done:
                for member in self.structs[name]:
                    for other in re.findall(r"struct (\w+)", member.c_type):
                        if other in self.structs and other != name:
                            add(other)
                done.append(name)

        for name in self.structs:
            add(name)
        return done

    def struct(self, name: str) -> list[str]:
        """A class, and before it the types of its callbacks."""
        members = self.structs[name]
        self.callbacks = []
        base = "SizedStructure" if self.is_made_by_callers(name) else "Structure"
        text = f"class {camel(name)}({base}):\n    _fields_ = [\n"
        for member in members:
            text += f'        ("{member.name}", {self.member_type(name, member, members)}),\n'
        return [*self.callbacks, text + "    ]"]

    def is_made_by_callers(self, struct: str) -> bool:
        return f"#define {struct.upper()}_INIT " in self.text

    def member_type(self, struct: str, member: Declared, members: list[Declared]) -> str:
        """Bytes can be assigned to what callers give. What the library gives is an
        address if its length is beside it, since it need not end with a NUL."""
        array = re.fullmatch(r"(char|uint8_t) \[(\d+)\]", member.c_type)
        if array:
            return f"{'c_char' if array[1] == 'char' else 'c_ubyte'} * {array[2]}"
        if member.c_type in ("const char *", "const void *"):
            if self.is_made_by_callers(struct):
                return "c_char_p"
            if any(other.name == f"{member.name}_len" for other in members):
                return "c_void_p"
        return self.python_type(member, struct)

    def python_type(self, value: Declared, owner: str) -> str:
        """The name in ctypes for the type of a member, a parameter or a result."""
        callback = CALLBACK.match(value.c_type)
        if callback:
            return self.callback_type(callback, value.name, owner)
        words = [word for word in value.c_type.replace("*", " * ").split() if word != "const"]
        base, stars = " ".join(word for word in words if word != "*"), words.count("*")
        if stars == 0:
            return "None" if base == "void" else NUMBERS[base]
        if base.startswith("struct ") and base[7:] in self.structs and stars == 1:
            return f"POINTER({camel(base[7:])})"
        if base in NUMBERS and stars == 1:
            return f"POINTER({NUMBERS[base]})"
        text = base == "char" and value.c_type.startswith("const")
        one = "c_char_p" if text else "c_void_p"
        return one if stars == 1 else f"POINTER({one})"

    def callback_type(self, callback: re.Match[str], name: str, owner: str) -> str:
        result = self.python_type(Declared("", callback["result"].strip()), owner)
        parameters = [self.python_type(p, owner) for p in parameters_of(callback["parameters"])]
        type_name = camel(f"{owner}_{name}")
        types = ", ".join([result, *parameters])
        line = f"{type_name} = CFUNCTYPE({types})"
        if len(line) > WIDTH:
            line = f"{type_name} = CFUNCTYPE(\n    {types}\n)"
        self.callbacks.append(line)
        return type_name

    def prototypes(self) -> list[str]:
        """A table of all functions, and before it the types of their callbacks."""
        self.callbacks = []
        table = "# name: (result, parameters)\n"
        table += "PROTOTYPES: dict[str, tuple[Any, tuple[Any, ...]]] = {\n"
        for c_result, name, parameters in self.functions:
            result = self.python_type(Declared("", c_result.strip()), name)
            types = [self.python_type(p, name) for p in parameters_of(parameters)]
            table += "\n".join(entry(name, result, types)) + "\n"
        return [*self.callbacks, table + "}"]


def declared(text: str) -> Declared:
    """`const char *name`, `char sha256[72]`, `int (*progress)(void *context, ...)`"""
    text = " ".join(text.split())
    callback = CALLBACK.match(text)
    if callback:
        return Declared(callback["name"], text)
    found = re.fullmatch(r"(.*?)(\w+)(\[\d+\])?", text)
    assert found is not None, text
    return Declared(found[2], f"{found[1].strip()} {found[3] or ''}".strip())


def parameters_of(text: str) -> list[Declared]:
    """The parameters of a function; commas of a callback's own do not part them."""
    if text.strip() in ("void", ""):
        return []
    return [declared(parameter) for parameter in re.split(r",(?![^()]*\))", text)]


def camel(name: str) -> str:
    return "".join(word.capitalize() for word in name.split("_"))


def entry(name: str, result: str, types: list[str]) -> list[str]:
    """The lines of a function in the table."""
    parameters = f"({', '.join(types)}{',' if len(types) == 1 else ''})"
    line = f'    "{name}": ({result}, {parameters}),'
    if len(line) <= WIDTH:
        return [line]
    line = f"        {parameters},"
    if len(line) <= WIDTH:
        return [f'    "{name}": (', f"        {result},", line, "    ),"]
    inner = ["        (", *(f"            {kind}," for kind in types), "        ),"]
    return [f'    "{name}": (', f"        {result},", *inner, "    ),"]


def docstring(text: str) -> str:
    return "\n".join(textwrap.wrap(f'"""{text}"""', WIDTH - 4)) + "\n"


def made() -> str:
    """What _abi.py has to be."""
    return Header(HEADER.read_text()).module()


if __name__ == "__main__":
    MODULE.write_text(made())
