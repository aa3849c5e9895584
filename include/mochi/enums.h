// Choices that requests and options are made of. For each enum there are an array of all values,
// name_of() and a parse function, from which a program can list, print and read the choices.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string_view>

namespace mochi {

// The device that runs the networks.
enum class DeviceKind : std::uint8_t {
  kAuto,  // "auto": a GPU if one can be used, else the CPU
  kCpu,   // "cpu"
  kCuda,  // "cuda": an NVIDIA GPU
};
inline constexpr std::array kDeviceKinds{DeviceKind::kAuto, DeviceKind::kCpu, DeviceKind::kCuda};
std::string_view name_of(DeviceKind kind);
std::optional<DeviceKind> parse_device_kind(std::string_view name);

// One of several devices of a kind: "cuda" (the first), "cuda:1".
struct DeviceName {
  DeviceKind kind = DeviceKind::kAuto;
  int index = 0;  // 0 to 255; 0 for kAuto
};
std::optional<DeviceName> parse_device(std::string_view name);

// The type of the weights in memory, and on a GPU of the activations.
enum class Precision : std::uint8_t {
  kAuto,  // "auto": the type whose matmuls are fastest on the device
  kFp32,  // "fp32"
  kBf16,  // "bf16"
};
inline constexpr std::array kPrecisions{Precision::kAuto, Precision::kFp32, Precision::kBf16};
std::string_view name_of(Precision precision);
std::optional<Precision> parse_precision(std::string_view name);

// The generator of the start noise.
enum class NoiseSource : std::uint8_t {
  kMochi,      // "mochi": counter-based; equal on every machine and for any number of threads
  kTorchCpu,   // "torch-cpu": torch.manual_seed(seed); torch.randn(shape) on a CPU with AVX2, bit
               // for bit
  kTorchCuda,  // "torch-cuda": the same two calls on a GPU with 132 multiprocessors (H100, H200),
               // to 4e-6
};
inline constexpr std::array kNoiseSources{NoiseSource::kMochi, NoiseSource::kTorchCpu,
                                          NoiseSource::kTorchCuda};
std::string_view name_of(NoiseSource source);
std::optional<NoiseSource> parse_noise_source(std::string_view name);

// Random weights in place of a model's files, to try out sizes and to measure.
enum class RandomWeights : std::uint8_t {
  kNone,           // "none": weights are read from files
  kConfig,         // "config": networks of the sizes in model_dir's config.json
  kMochi1Preview,  // "mochi-1-preview": networks of that model's sizes
};
inline constexpr std::array kRandomWeights{RandomWeights::kNone, RandomWeights::kConfig,
                                           RandomWeights::kMochi1Preview};
std::string_view name_of(RandomWeights weights);
std::optional<RandomWeights> parse_random_weights(std::string_view name);

// A part of the engine's work, as Progress reports it.
enum class Phase : std::uint8_t {
  kLoading,     // "loading": weights are read
  kText,        // "text": prompts are encoded
  kSampling,    // "sampling"
  kDecoding,    // "decoding"
  kEncoding,    // "encoding"
  kConverting,  // "converting": weights are written in another precision
};
inline constexpr std::array kPhases{Phase::kLoading,  Phase::kText,     Phase::kSampling,
                                    Phase::kDecoding, Phase::kEncoding, Phase::kConverting};
std::string_view name_of(Phase phase);

}  // namespace mochi
