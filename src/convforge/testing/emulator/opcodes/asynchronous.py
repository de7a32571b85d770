"""cp.async, mbarriers, bulk copies and copies by tensor maps."""

from __future__ import annotations

from convforge.testing.emulator.body import Body
from convforge.testing.emulator.opcodes import Modifiers, expect, opcode
from convforge.testing.emulator.ptx import Instruction, UnsupportedPTX

_SHARED = ("shared", "shared_cta", "shared_cluster")
_COUNTED = "mbarrier_complete_tx_bytes"


@opcode("cp")
def cp(body: Body, i: Instruction, m: Modifiers) -> str:
    """Copies in the background."""
    m.words.remove("async")
    if m.flag("bulk"):
        return _bulk(body, i, m)
    if m.flag("commit_group"):
        return "copy_commit();"
    if m.flag("wait_group"):
        return f"copy_wait({body.value(i.operands[0], 'u32')});"
    if m.flag("wait_all"):
        return "copy_wait_all();"
    if m.flag("mbarrier"):
        m.words.remove("arrive")
        m.type()
        expected = str(m.flag("noinc")).lower()
        m.flag(*_SHARED)
        return f"copy_arrive({body.site(i)}, {body.address(i.operands[0])[1]}, {expected});"
    return _copy(body, i, m)


def _copy(body: Body, i: Instruction, m: Modifiers) -> str:
    cached = m.one(("ca", "cg"))
    m.flag(*_SHARED)
    m.words.remove("global")
    m.drop("L2_")
    to, source, size, *rest = i.operands
    if int(size) not in ((16,) if cached == "cg" else (4, 8, 16)):
        raise ValueError(size)
    count = f"(u32){size}"
    if rest and body.is_register(rest[0]) and body.registers_type(rest[0]) == "bool":
        count = f"{body.value(rest[0], 'pred')} ? 0u : {size}u"  # ignore-src
    elif rest:
        count = body.value(rest[0], "u32")
    addresses = f"{body.address(to)[1]}, {body.address(source)[1]}"
    return f"copy_async({body.site(i)}, {addresses}, {size}, {count});"


def _bulk(body: Body, i: Instruction, m: Modifiers) -> str:
    if m.flag("commit_group"):
        return "bulk_commit();"
    if m.flag("wait_group"):
        m.flag("read")
        return f"bulk_wait({body.value(i.operands[0], 'u32')});"
    if m.flag("prefetch"):
        m.words.clear()
        return ";"
    m.drop("L2_")
    if m.flag("multicast_cluster"):
        raise UnsupportedPTX("a copy to other blocks of a cluster", i.line, i.text)
    site = body.site(i)
    tensor = m.flag("tensor")
    rank = int(m.one(("1d", "2d", "3d", "4d", "5d"), "0d")[0])
    stores = m.words[0] == "global"
    im2col = m.flag("im2col")
    m.flag("tile", "bulk_group", _COUNTED)
    if not stores:
        m.flag(*_SHARED)
        m.words.remove("global")
    else:
        m.words.clear()
    if not tensor:
        first, second, count = (
            body.address(i.operands[0])[1],
            body.address(i.operands[1])[1],
            i.operands[2],
        )
        amount = body.value(count, "u32")
        if stores:
            return f"bulk_store({site}, {first}, {second}, {amount});"
        return f"bulk_load({site}, {first}, {second}, {amount}, {body.address(i.operands[3])[1]});"
    map_operand = i.operands[0] if stores else i.operands[1]
    map_register, _, position = map_operand[1:-1].partition(",")
    coordinates = [body.value(v, "s32") for v in body.vector(position.strip())]
    expect(len(coordinates) == rank)
    map_address = body.address(f"[{map_register.strip()}]")[1]
    start = f"{{ const s32 position[] = {{{', '.join(coordinates)}}};"
    if stores:
        if im2col:
            raise UnsupportedPTX("a store by an im2col map", i.line, i.text)
        source = body.address(i.operands[1])[1]
        return f"{start} tensor_store({site}, {map_address}, position, {rank}, {source}); }}"
    to, barrier = body.address(i.operands[0])[1], body.address(i.operands[2])[1]
    what = f"{site}, {to}, {map_address}, position, {rank}"
    if im2col:
        offsets = ", ".join(body.value(v, "u16") for v in body.vector(i.operands[3]))
        taps = f"const u16 offsets[] = {{{offsets}}};"
        return f"{start} {taps} tensor_load_im2col({what}, offsets, {barrier}); }}"
    return f"{start} tensor_load({what}, {barrier}); }}"


@opcode("mbarrier")
def mbarrier(body: Body, i: Instruction, m: Modifiers) -> str:
    """Barriers in shared memory that count arrivals and bytes."""
    m.type()
    kind = m.words.pop(0)
    m.flag(*_SHARED, "cta", "cluster", "release", "acquire", "relaxed")
    site = body.site(i)
    operands = list(i.operands)
    if kind in ("init", "inval", "expect_tx"):
        at = body.address(operands[0])[1]
        if kind == "inval":
            return f"mbarrier_invalidate({site}, {at});"
        name = {"init": "init", "expect_tx": "expect"}[kind]
        return f"mbarrier_{name}({site}, {at}, {body.value(operands[1], 'u32')});"
    target = operands.pop(0) if not operands[0].startswith("[") else "_"
    if kind == "pending_count":
        return body.put(target, f"mbarrier_pending({body.value(operands[0], 'u64')})")
    at = body.address(operands.pop(0))[1]
    given = [body.value(v, "u32") for v in operands]
    if kind in ("arrive", "arrive_drop"):
        m.flag("noComplete")
        expects = m.flag("expect_tx")
        count, amount = ("1", given[0]) if expects else (given[0] if given else "1", "0")
        name = "arrive" if kind == "arrive" else "drop"
        return body.put(target, f"mbarrier_{name}({site}, {at}, {count}, {amount})")
    if kind in ("test_wait", "try_wait"):
        parity = (
            given[0] if m.flag("parity") else f"mbarrier_parity({body.value(operands[0], 'u64')})"
        )
        waits = str(kind == "try_wait").lower()
        return body.put(target, f"mbarrier_test({site}, {at}, {parity}, {waits})")
    raise ValueError(kind)
