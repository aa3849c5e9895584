#include "mochi/enums.h"

#include <charconv>
#include <system_error>

namespace mochi {
namespace {

template <typename Enum>
struct Named {
  Enum value;
  std::string_view name;
};

constexpr std::array kDeviceNames{Named{DeviceKind::kAuto, "auto"}, Named{DeviceKind::kCpu, "cpu"},
                                  Named{DeviceKind::kCuda, "cuda"}};
constexpr std::array kPrecisionNames{Named{Precision::kAuto, "auto"},
                                     Named{Precision::kFp32, "fp32"},
                                     Named{Precision::kBf16, "bf16"}};
constexpr std::array kNoiseNames{Named{NoiseSource::kMochi, "mochi"},
                                 Named{NoiseSource::kTorchCpu, "torch-cpu"},
                                 Named{NoiseSource::kTorchCuda, "torch-cuda"}};
constexpr std::array kWeightsNames{Named{RandomWeights::kNone, "none"},
                                   Named{RandomWeights::kConfig, "config"},
                                   Named{RandomWeights::kMochi1Preview, "mochi-1-preview"}};
constexpr std::array kPhaseNames{
    Named{Phase::kLoading, "loading"},   Named{Phase::kText, "text"},
    Named{Phase::kSampling, "sampling"}, Named{Phase::kDecoding, "decoding"},
    Named{Phase::kEncoding, "encoding"}, Named{Phase::kConverting, "converting"}};

template <typename Enum, std::size_t kSize>
constexpr std::string_view find_name(const std::array<Named<Enum>, kSize>& names, Enum value) {
  for (const Named<Enum>& named : names) {
    if (named.value == value) return named.name;
  }
  return "?";
}

template <typename Enum, std::size_t kSize>
constexpr std::optional<Enum> find_value(const std::array<Named<Enum>, kSize>& names,
                                         std::string_view name) {
  for (const Named<Enum>& named : names) {
    if (named.name == name) return named.value;
  }
  return std::nullopt;
}

}  // namespace

std::string_view name_of(DeviceKind kind) { return find_name(kDeviceNames, kind); }
std::string_view name_of(Precision precision) { return find_name(kPrecisionNames, precision); }
std::string_view name_of(NoiseSource source) { return find_name(kNoiseNames, source); }
std::string_view name_of(RandomWeights weights) { return find_name(kWeightsNames, weights); }
std::string_view name_of(Phase phase) { return find_name(kPhaseNames, phase); }

std::optional<DeviceKind> parse_device_kind(std::string_view name) {
  return find_value(kDeviceNames, name);
}
std::optional<DeviceName> parse_device(std::string_view name) {
  constexpr int kMaxIndex = 255;
  const std::size_t colon = name.find(':');
  const std::optional<DeviceKind> kind = parse_device_kind(name.substr(0, colon));
  if (!kind) return std::nullopt;
  DeviceName device{.kind = *kind};
  if (colon == std::string_view::npos) return device;
  const std::string_view index = name.substr(colon + 1);
  const auto [end, error] = std::from_chars(index.begin(), index.end(), device.index);
  const bool is_index = error == std::errc() && end == index.end() && index.front() != '-';
  if (!is_index || device.index > kMaxIndex || *kind == DeviceKind::kAuto) return std::nullopt;
  return device;
}

std::optional<Precision> parse_precision(std::string_view name) {
  return find_value(kPrecisionNames, name);
}
std::optional<NoiseSource> parse_noise_source(std::string_view name) {
  return find_value(kNoiseNames, name);
}
std::optional<RandomWeights> parse_random_weights(std::string_view name) {
  return find_value(kWeightsNames, name);
}

}  // namespace mochi
