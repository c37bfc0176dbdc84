"""The exact text form of a value, the same for source and lake.

The lake's Arrow type of a column decides the form; nothing is rounded:

boolean        true, false
integers       decimal digits
float, double  the bits, as a signed integer; NaN
decimal        digits without trailing zeros
string         itself
binary         lower-case hexadecimal
date           days since 1970-01-01
timestamp      microseconds since 1970-01-01
list           [length:text,...] of its elements' forms; ~ for NULL elements
"""

import pyarrow as pa
import pyarrow.compute as pc


def plain(kind):
    """The type without dictionaries, views and large offsets."""
    if pa.types.is_dictionary(kind):
        kind = kind.value_type
    if pa.types.is_large_string(kind) or kind == pa.string_view():
        return pa.string()
    if pa.types.is_large_binary(kind) or pa.types.is_fixed_size_binary(kind) or kind == pa.binary_view():
        return pa.binary()
    if is_list(kind):
        return pa.list_(plain(kind.value_type))
    return kind


def is_list(kind):
    return pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind)


def text(array):
    """The text form of an Arrow array."""
    if isinstance(array, pa.ChunkedArray):
        array = array.combine_chunks()
    kind = plain(array.type)
    if kind != array.type:
        array = array.cast(kind)
    if pa.types.is_string(kind):
        return array
    if pa.types.is_floating(kind):
        return floating(array)
    if pa.types.is_decimal(kind):
        return decimals(array)
    if pa.types.is_binary(kind):
        return each(array, lambda value: value.hex())
    if pa.types.is_date(kind):
        return array.cast(pa.int32()).cast(pa.string())
    if pa.types.is_timestamp(kind):
        return array.cast(pa.timestamp("us", kind.tz)).cast(pa.int64()).cast(pa.string())
    if is_list(kind):
        return lists(array)
    if pa.types.is_boolean(kind) or pa.types.is_integer(kind):
        return array.cast(pa.string())
    raise TypeError(f"no text form is declared for {kind}")


def floating(array):
    integers = pa.int32() if pa.types.is_float32(array.type) else pa.int64()
    # NULLs may have any bits; `view` keeps the array's offset.
    form = array.fill_null(0.0).view(integers).cast(pa.string())
    form = pc.if_else(pc.is_nan(array.fill_null(0.0)), "NaN", form)
    return pc.if_else(array.is_null(), pa.scalar(None, pa.string()), form)


def decimals(array):
    digits = array.cast(pa.string())
    if pc.any(pc.match_substring(digits, "E")).as_py():
        # Very small numbers come in scientific notation: one by one.
        return each(array, decimal)
    if array.type.scale > 0:
        digits = pc.utf8_rtrim(pc.utf8_rtrim(digits, "0"), ".")
    return digits


def decimal(value):
    digits = format(value, "f")
    return (digits.rstrip("0").rstrip(".") if "." in digits else digits) or "0"


def each(array, form):
    return pa.array((None if value is None else form(value) for value in array.to_pylist()), pa.string())


def lists(array):
    elements = text(array.flatten()).to_pylist()
    lengths = pc.list_value_length(array).to_pylist()
    forms, at = [], 0
    for length in lengths:
        forms.append(None if length is None else list_text(elements[at : at + length]))
        at += length or 0
    return pa.array(forms, pa.string())


def list_text(elements):
    return "[" + ",".join("~" if e is None else f"{len(e)}:{e}" for e in elements) + "]"
