// Arithmetic by the name of its opcode. Compiled with -fwrapv: integers wrap as PTX's do.
#pragma once
#include <cfenv>

#include "types.h"

namespace emulator {

template <class T> struct wider;
template <> struct wider<u16> { typedef u32 type; };
template <> struct wider<s16> { typedef s32 type; };
template <> struct wider<u32> { typedef u64 type; };
template <> struct wider<s32> { typedef s64 type; };
template <> struct wider<u64> { typedef u128 type; };
template <> struct wider<s64> { typedef s128 type; };
template <class T> using wide = typename wider<T>::type;

template <class T> inline T add(T a, T b) { return T(a + b); }
template <class T> inline T sub(T a, T b) { return T(a - b); }
template <class T> inline T mul(T a, T b) {
  if constexpr (is_float<T>::value) return T(a * b);
  else return T((wide<T>)a * b);
}
template <class T> inline wide<T> mul_wide(T a, T b) { return (wide<T>)a * (wide<T>)b; }
template <class T> inline T mul_hi(T a, T b) { return T(mul_wide(a, b) >> (8 * sizeof(T))); }
template <class T> inline T mul24(T a, T b) {
  T x = T(a << 8) >> 8, y = T(b << 8) >> 8;
  return x * y;
}
template <class T> inline T fma(T a, T b, T c) {
  if constexpr (std::is_same<T, f32>::value || std::is_same<T, f64>::value) return std::fma(a, b, c);
  else return T(std::fma((f64)(f32)a, (f64)(f32)b, (f64)(f32)c));
}
// A division by zero gives all ones on the device and must not stop the process here.
template <class T> inline T div(T a, T b) {
  if constexpr (is_float<T>::value) return T(a / b);
  else return b == 0 ? T(-1) : (std::is_signed<T>::value && b == T(-1)) ? T(0 - a) : T(a / b);
}
template <class T> inline T rem(T a, T b) {
  return b == 0 ? a : (std::is_signed<T>::value && b == T(-1)) ? T(0) : T(a % b);
}
template <class T> inline T neg(T a) {
  if constexpr (std::is_same<T, f16>::value || std::is_same<T, bf16>::value) {
    a.pattern ^= 0x8000;
    return a;
  } else return T(-a);
}
template <class T> inline T abs(T a) {
  if constexpr (std::is_same<T, f16>::value || std::is_same<T, bf16>::value) {
    a.pattern &= 0x7FFF;
    return a;
  } else if constexpr (is_float<T>::value) return std::fabs(a);
  else return a < 0 ? T(-a) : a;
}
// Of a number and a NaN the number, unless NaN is asked for. -0 is less than +0.
template <bool nan, class T> inline T least(T a, T b) {
  if constexpr (is_float<T>::value) {
    f64 x = (f32)a, y = (f32)b;
    if constexpr (std::is_same<T, f64>::value) x = a, y = b;
    if (x != x) return nan || y != y ? T(NAN) : b;
    if (y != y) return nan ? T(NAN) : a;
    return x == y ? (std::signbit(x) ? a : b) : x < y ? a : b;
  } else return a < b ? a : b;
}
template <bool nan, class T> inline T most(T a, T b) {
  if constexpr (is_float<T>::value) return neg(least<nan>(neg(a), neg(b)));
  else return a > b ? a : b;
}
template <class T> inline T add_sat(T a, T b) {
  wide<T> sum = (wide<T>)a + b;
  const T low = std::is_signed<T>::value ? T(T(1) << (8 * sizeof(T) - 1)) : T(0), high = T(~low);
  return sum < (wide<T>)low ? low : sum > (wide<T>)high ? high : T(sum);
}
template <class T> inline T sub_sat(T a, T b) {
  s128 d = (s128)a - b, low = std::is_signed<T>::value ? -((s128)1 << (8 * sizeof(T) - 1)) : 0,
       high = ((s128)1 << (8 * sizeof(T) - (std::is_signed<T>::value ? 1 : 0))) - 1;
  return T(d < low ? low : d > high ? high : d);
}
template <class T> inline T sad(T a, T b, T c) { return T(c + (a > b ? a - b : b - a)); }

// Subnormal numbers as zeros; numbers clamped to [0, 1]; negative ones as zeros.
inline f32 ftz(f32 x) { return std::fabs(x) < 0x1p-126f ? std::copysign(0.0f, x) : x; }
inline f64 ftz(f64 x) { return x; }
template <class T> inline T ftz(T x) { return x; }
template <class T> inline T saturated(T x) { return x > T(0.0) ? (x < T(1.0) ? x : T(1.0)) : T(0.0); }
template <class T> inline T relu(T x) { return (f32)x != (f32)x ? T(NAN) : (f32)x > 0 ? x : T(0.0); }

// Directed roundings: volatile keeps the compiler from computing before the mode is set.
template <class F, class T> inline T rounded(int mode, F f, T a, T b, T c = T(0)) {
  volatile T x = a, y = b, z = c;
  fesetround(mode);
  volatile T result = f((T)x, (T)y, (T)z);
  fesetround(FE_TONEAREST);
  return result;
}

template <class T> inline T sqrt(T a) { return T(std::sqrt((f64)a)); }
template <class T> inline T rsqrt(T a) { return T(1 / std::sqrt((f64)a)); }
template <class T> inline T rcp(T a) { return T(1 / (f64)a); }
template <class T> inline T ex2(T a) { return T(std::exp2((f64)(f32)a)); }
template <class T> inline T lg2(T a) { return T(std::log2((f64)a)); }
template <class T> inline T sin(T a) { return T(std::sin((f64)a)); }
template <class T> inline T cos(T a) { return T(std::cos((f64)a)); }
template <class T> inline T tanh(T a) { return T(std::tanh((f64)(f32)a)); }
template <class T> inline T copysign(T a, T b) { return std::copysign(b, a); }

// Shifts by the width or more give zeros, or copies of the sign.
template <class T> inline T shl(T a, u32 n) { return n >= 8 * sizeof(T) ? T(0) : T(a << n); }
template <class T> inline T shr(T a, u32 n) {
  if (n >= 8 * sizeof(T)) return a < 0 ? T(-1) : T(0);
  return T(a >> n);
}
template <bool wrap> inline u32 shf_l(u32 low, u32 high, u32 n) {
  n = wrap ? n & 31 : n < 32 ? n : 32;
  return (u32)(((((u64)high << 32) | low) << n) >> 32);
}
template <bool wrap> inline u32 shf_r(u32 low, u32 high, u32 n) {
  n = wrap ? n & 31 : n < 32 ? n : 32;
  return (u32)((((u64)high << 32) | low) >> n);
}
template <class T> inline u32 popc(T a) { return (u32)__builtin_popcountll((u64)a); }
template <class T> inline u32 clz(T a) {
  return a == 0 ? 8 * sizeof(T) : (u32)__builtin_clzll((u64)a) - (64 - 8 * sizeof(T));
}
// The highest bit that differs from the sign, or all ones where none does.
template <bool amount, class T> inline u32 bfind(T a) {
  typename std::make_unsigned<T>::type x = a < 0 ? ~a : a;
  if (x == 0) return ~0u;
  u32 shift = clz(x);
  return amount ? shift : 8 * sizeof(T) - 1 - shift;
}
template <class T> inline T brev(T a) {
  T r = 0;
  for (u32 i = 0; i < 8 * sizeof(T); i++) r |= ((a >> i) & 1) << (8 * sizeof(T) - 1 - i);
  return r;
}
template <class T> inline T bfe(T a, u32 start, u32 length) {
  const u32 width = 8 * sizeof(T);
  start &= 0xFF, length &= 0xFF;
  if (length == 0) return 0;
  u32 last = start + length - 1 < width - 1 ? start + length - 1 : width - 1;
  bool sign = std::is_signed<T>::value && ((u64)a >> last & 1);
  T r = 0;
  for (u32 i = 0; i < width; i++) {
    bool bit = i < length && start + i < width ? ((u64)a >> (start + i)) & 1 : sign;
    r |= T((u64)bit << i);
  }
  return r;
}
template <class T> inline T bfi(T a, T b, u32 start, u32 length) {
  start &= 0xFF, length &= 0xFF;
  for (u32 i = 0; i < length && start + i < 8 * sizeof(T); i++) {
    T bit = T(T(1) << (start + i));
    b = (a >> i) & 1 ? b | bit : b & ~bit;
  }
  return b;
}
template <bool wrap> inline u32 bmsk(u32 start, u32 length) {
  if (wrap) start &= 31, length &= 31;
  u64 ones = length >= 32 ? 0xFFFFFFFFull : (1ull << length) - 1;
  return start >= 32 ? 0 : (u32)(ones << start);
}
inline u32 lop3(u32 a, u32 b, u32 c, u32 table) {
  u32 r = 0;
  if (table & 0x01) r |= ~a & ~b & ~c;
  if (table & 0x02) r |= ~a & ~b & c;
  if (table & 0x04) r |= ~a & b & ~c;
  if (table & 0x08) r |= ~a & b & c;
  if (table & 0x10) r |= a & ~b & ~c;
  if (table & 0x20) r |= a & ~b & c;
  if (table & 0x40) r |= a & b & ~c;
  if (table & 0x80) r |= a & b & c;
  return r;
}
inline u32 prmt(u32 a, u32 b, u32 selector) {
  const u64 bytes = ((u64)b << 32) | a;
  u32 r = 0;
  for (int i = 0; i < 4; i++) {
    u32 pick = selector >> (4 * i) & 15, byte = (u32)(bytes >> (8 * (pick & 7))) & 0xFF;
    if (pick & 8) byte = byte & 0x80 ? 0xFF : 0;  // the sign of the byte, copied
    r |= byte << (8 * i);
  }
  return r;
}
template <class A, class B> inline u32 dp4a(u32 a, u32 b, u32 c) {
  for (int i = 0; i < 4; i++) c += (s32)(A)(a >> (8 * i)) * (s32)(B)(b >> (8 * i));
  return c;
}

// Comparisons; the letter u after a name lets a NaN on either side be true.
template <class T> inline bool unordered(T a, T b) {
  if constexpr (is_float<T>::value) return a != a || b != b;
  else return false;
}
template <class T> inline bool compare_eq(T a, T b) { return a == b; }
template <class T> inline bool compare_ne(T a, T b) { return !unordered(a, b) && a != b; }
template <class T> inline bool compare_lt(T a, T b) { return a < b; }
template <class T> inline bool compare_le(T a, T b) { return a <= b; }
template <class T> inline bool compare_gt(T a, T b) { return a > b; }
template <class T> inline bool compare_ge(T a, T b) { return a >= b; }
template <class T> inline bool compare_equ(T a, T b) { return unordered(a, b) || a == b; }
template <class T> inline bool compare_neu(T a, T b) { return unordered(a, b) || a != b; }
template <class T> inline bool compare_ltu(T a, T b) { return unordered(a, b) || a < b; }
template <class T> inline bool compare_leu(T a, T b) { return unordered(a, b) || a <= b; }
template <class T> inline bool compare_gtu(T a, T b) { return unordered(a, b) || a > b; }
template <class T> inline bool compare_geu(T a, T b) { return unordered(a, b) || a >= b; }
template <class T> inline bool compare_num(T a, T b) { return !unordered(a, b); }
template <class T> inline bool compare_nan(T a, T b) { return unordered(a, b); }

// Conversions. From a float to an integer all saturate. A NaN gives zero, but the highest bit where
// either type is of 64 bits (PTX ISA, cvt).
template <class To, class From> inline To clamped(f64 x) {
  const To low = std::is_signed<To>::value ? To(To(1) << (8 * sizeof(To) - 1)) : To(0);
  const To high = To(~low);
  if (x != x) return sizeof(To) == 8 || sizeof(From) == 8 ? To(u64(1) << (8 * sizeof(To) - 1)) : To(0);
  return x <= (f64)low ? low : x >= (f64)high ? high : To(x);
}
template <class To, class From> inline To clamped_integer(From x) {
  const s128 low = std::is_signed<To>::value ? -((s128)1 << (8 * sizeof(To) - 1)) : 0;
  const s128 high = ((s128)1 << (8 * sizeof(To) - (std::is_signed<To>::value ? 1 : 0))) - 1;
  return (s128)x < low ? To(low) : (s128)x > high ? To(high) : To(x);
}
inline f64 number(f64 x) { return x; }
inline f64 number(f32 x) { return x; }
inline f64 number(f16 x) { return (f32)x; }
inline f64 number(bf16 x) { return (f32)x; }
inline f32 to_f32(f64 x, int mode) {
  volatile f64 wide = x;
  fesetround(mode);
  volatile f32 result = (f32)wide;
  fesetround(FE_TONEAREST);
  return result;
}
template <class From> inline f64 integer_to(int mode, From x) {
  volatile From integer = x;
  fesetround(mode);
  volatile f64 result = (f64)integer;
  fesetround(FE_TONEAREST);
  return result;
}
template <class From> inline f32 integer_to_f32(int mode, From x) {
  volatile From integer = x;
  fesetround(mode);
  volatile f32 result = (f32)integer;
  fesetround(FE_TONEAREST);
  return result;
}
// To nearest, ties away from zero (cvt.rna), and to nearest even.
inline u32 tf32_away(f32 x) { return x != x ? 0x7FFFFFFF : (bits<u32>(x) + 0x1000) & ~0x1FFFu; }
inline u32 tf32_even(f32 x) {
  u32 u = bits<u32>(x);
  return x != x ? 0x7FFFFFFF : (u + 0xFFF + (u >> 13 & 1)) & ~0x1FFFu;
}
// .satfinite: the largest finite number of the sign for an infinity, of f16, bf16 and tf32.
inline f16 finite(f16 x) { return (x.pattern & 0x7FFF) == 0x7C00 ? x.pattern--, x : x; }
inline bf16 finite(bf16 x) { return (x.pattern & 0x7FFF) == 0x7F80 ? x.pattern--, x : x; }
inline u32 finite(u32 tf32) { return (tf32 & 0x7FFFFFFF) == 0x7F800000 ? tf32 - 0x2000 : tf32; }

}  // namespace emulator
