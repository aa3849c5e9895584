// A standard normal from 32 random bits, the same to the last bit on every machine, by every
// compiler and on the GPU, whose compiler takes these functions as they are: hence templates that
// may be constant expressions.
#pragma once

#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <cstdint>

namespace mochi {

// Everything below rounds in one way only: +, −, /, sqrt and fma are exact to the last bit by
// IEEE 754, and a sum of products is always written as std::fma, so that no compiler can choose.

// Coefficients from the highest power down.
template <std::size_t kSize>
constexpr double polynomial(const std::array<double, kSize>& coefficients, double x) {
  double sum = coefficients[0];
  for (std::size_t i = 1; i < kSize; ++i) sum = std::fma(sum, x, coefficients[i]);
  return sum;
}

// ln x for normal x > 0: exponent times ln 2, plus 2·artanh((m − 1)/(m + 1)) as its series.
template <typename Double>
constexpr Double natural_log(Double x) {
  int exponent = 0;
  double mantissa = std::frexp(x, &exponent);  // in [0.5, 1)
  if (mantissa < 0.70710678118654752) {
    mantissa += mantissa;
    exponent -= 1;
  }
  const double s = (mantissa - 1.0) / (mantissa + 1.0);  // |s| < 0.172: 12 terms are enough
  const double square = s * s;
  double series = 0.0;
  for (int odd = 23; odd >= 3; odd -= 2) series = std::fma(series, square, 1.0 / odd);
  const double twice = s + s;
  const double log_mantissa = std::fma(twice * square, series, twice);
  constexpr double kLn2 = 0.69314718055994530942;
  return std::fma(static_cast<double>(exponent), kLn2, log_mantissa);
}

// The value below which a standard normal falls with probability p, to about 1e-16: M. J. Wichura,
// "Algorithm AS 241: the percentage points of the normal distribution", 1988. Both tails must be
// at least 2^-33, as 32 random bits give them: the algorithm's third range (below e^-25) is left
// out.
template <typename Double>
constexpr Double normal_quantile(Double p) {
  const double centred = p - 0.5;
  if (std::abs(centred) <= 0.425) {
    constexpr std::array kTop{2509.0809287301226727, 33430.575583588128105, 67265.770927008700853,
                              45921.953931549871457, 13731.693765509461125, 1971.5909503065514427,
                              133.14166789178437745, 3.387132872796366608};
    constexpr std::array kBottom{
        5226.495278852854561,  28729.085735721942674, 39307.89580009271061,  21213.794301586595867,
        5394.1960214247511077, 687.1870074920579083,  42.313330701600911252, 1.0};
    const double r = std::fma(-centred, centred, 0.180625);
    return centred * polynomial(kTop, r) / polynomial(kBottom, r);
  }
  const double r = std::sqrt(-natural_log(std::min(p, 1.0 - p)));
  constexpr std::array kTop{7.7454501427834140764e-4, 0.0227238449892691845833,
                            0.24178072517745061177,   1.27045825245236838258,
                            3.64784832476320460504,   5.7694972214606914055,
                            4.6303378461565452959,    1.42343711074968357734};
  constexpr std::array kBottom{1.05075007164441684324e-9, 5.475938084995344946e-4,
                               0.0151986665636164571966,  0.14810397642748007459,
                               0.68976733498510000455,    1.6763848301838038494,
                               2.05319162663775882187,    1.0};
  const double magnitude = polynomial(kTop, r - 1.6) / polynomial(kBottom, r - 1.6);
  return centred < 0.0 ? -magnitude : magnitude;
}

// The value of one word of random bits.
template <typename Word>
constexpr float normal_of_word(Word word) {
  return static_cast<float>(normal_quantile(std::fma(static_cast<double>(word), 0x1p-32, 0x1p-33)));
}

}  // namespace mochi
