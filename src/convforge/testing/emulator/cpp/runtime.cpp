// Everything that no kernel changes, as one translation unit: compiled once, linked to every module.
#include "block.cpp"
#include "memory.cpp"
#include "collectives.cpp"
#include "matrix.cpp"
#include "async.cpp"
