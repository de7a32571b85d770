// PTX's scalar types, and registers as the bits that they are.
#pragma once
#include <cmath>
#include <cstdint>
#include <cstring>
#include <type_traits>

namespace emulator {

typedef uint8_t u8;
typedef uint16_t u16;
typedef uint32_t u32;
typedef uint64_t u64;
typedef int8_t s8;
typedef int16_t s16;
typedef int32_t s32;
typedef int64_t s64;
typedef float f32;
typedef double f64;
typedef bool pred;
typedef unsigned __int128 u128;
typedef __int128 s128;

template <class To, class From> inline To bits(From from) {
  static_assert(sizeof(To) == sizeof(From), "the same number of bits");
  To to;
  memcpy(&to, &from, sizeof to);
  return to;
}

// A number rounded to a format of so many exponent and mantissa bits, to nearest even or towards
// zero. The bit patterns of finite numbers are consecutive, so a carry out of the mantissa is right.
inline u32 narrow(f64 x, int exponent, int mantissa, bool towards_zero) {
  const int bias = (1 << (exponent - 1)) - 1;
  const u32 infinity = ((1u << exponent) - 1) << mantissa;
  const u32 sign = std::signbit(x) ? 1u << (exponent + mantissa) : 0;
  if (x != x) return (1u << (exponent + mantissa)) - 1;
  x = std::fabs(x);
  if (std::isinf(x)) return sign | infinity;
  if (x == 0) return sign;
  int e = std::ilogb(x);
  if (e < 1 - bias) e = 1 - bias;
  f64 scaled = std::ldexp(x, mantissa - e);
  u64 integer = (u64)(towards_zero ? std::trunc(scaled) : std::nearbyint(scaled));
  u64 pattern = ((u64)(e + bias - 1) << mantissa) + integer;
  if (pattern >= infinity) pattern = towards_zero ? infinity - 1 : infinity;
  return sign | (u32)pattern;
}

struct f16 {
  u16 pattern;
  f16() = default;
  explicit f16(f64 x, bool towards_zero = false) : pattern((u16)narrow(x, 5, 10, towards_zero)) {}
  operator f32() const {
    u32 magnitude = (u32)(pattern & 0x7FFF) << 13, sign = (u32)(pattern & 0x8000) << 16;
    if (magnitude >= 0x0F800000) return bits<f32>(sign | magnitude | 0x7F800000);
    return bits<f32>(sign | bits<u32>(bits<f32>(magnitude) * 0x1p112f));
  }
};

struct bf16 {
  u16 pattern;
  bf16() = default;
  explicit bf16(f64 x, bool towards_zero = false) : pattern((u16)narrow(x, 8, 7, towards_zero)) {}
  operator f32() const { return bits<f32>((u32)pattern << 16); }
};

template <class T> struct pair {
  T low, high;
};
typedef pair<f16> f16x2;
typedef pair<bf16> bf16x2;

template <class T> struct is_float : std::integral_constant<bool, std::is_floating_point<T>::value> {};
template <> struct is_float<f16> : std::true_type {};
template <> struct is_float<bf16> : std::true_type {};

// A register (an unsigned integer of its declared width) read as a type: the low bits of it.
template <class T, class Register> inline T as(Register r) {
  static_assert(sizeof(T) <= sizeof(Register), "a register narrower than what is read of it");
  T value;
  memcpy(&value, &r, sizeof value);
  return value;
}
template <> inline pred as<pred, pred>(pred r) { return r; }

// A value written to a register, which may be wider than it: integers are extended by their sign.
template <class Register, class T> inline void put(Register& r, T value) {
  static_assert(sizeof(T) <= sizeof(Register), "a value wider than its register");
  if constexpr (std::is_integral<T>::value)
    r = (Register)value;
  else {
    r = 0;
    memcpy(&r, &value, sizeof value);
  }
}

// The same function of both halves of packed operands.
template <class F, class... T> inline auto both(F f, pair<T>... x) {
  return pair<decltype(f(x.low...))>{f(x.low...), f(x.high...)};
}

}  // namespace emulator
