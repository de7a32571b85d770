"""Machinery without mathematics: threads and fork, JIT cache, launch, memory, machine facts."""
