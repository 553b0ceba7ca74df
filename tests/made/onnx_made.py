"""Small ONNX files, written as the protocol buffers that they are: the package onnx is no dependency."""

FLOAT, UINT8 = 1, 2


def number(value):
    """Return a protocol buffer's integer of variable length."""
    return bytes([value & 127 | 128]) + number(value >> 7) if value > 127 else bytes([value])


def field(key, content):
    """One field of a protocol buffer: an integer, text or bytes."""
    if isinstance(content, int):
        return number(key << 3) + number(content)
    content = content.encode() if isinstance(content, str) else content
    return number(key << 3 | 2) + number(len(content)) + content


def node(kind, inputs, output, **attributes):
    """One operation; its attributes are integers."""
    named = b"".join(field(5, field(1, name) + field(3, value) + field(20, 2)) for name, value in attributes.items())
    return field(1, b"".join(field(1, name) for name in inputs) + field(2, output) + field(4, kind) + named)


def value(key, name, kind, shape):
    """An input (key 11) or output (key 12) of a graph; axes of free size have names."""
    dims = b"".join(field(1, field(1, size) if isinstance(size, int) else field(2, size)) for size in shape)
    return field(key, field(1, name) + field(2, field(1, field(1, kind) + field(2, dims))))


def model(nodes, inputs, output, weights):
    """A whole file."""
    constants = b"".join(
        field(
            5,
            b"".join(field(1, size) for size in array.shape) + field(2, 1) + field(8, name) + field(9, array.tobytes()),
        )
        for name, array in weights.items()
    )
    graph = nodes + field(2, "g") + constants + b"".join(value(11, *item) for item in inputs) + value(12, *output)
    return field(1, 8) + field(8, field(2, 13)) + field(7, graph)
