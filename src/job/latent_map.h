// A linear map from latents to colours: a picture of latents for which no decoder has to run.
#pragma once

#include <array>
#include <cstdint>
#include <filesystem>
#include <optional>
#include <span>
#include <vector>

#include "job/job.h"
#include "mochi/mochi.h"

namespace mochi::job {

inline constexpr int kNumColors = 3;

// RGB in 0 to 255 = weights · latents + bias.
struct LatentMap {
  std::vector<float> weights;  // [3, channels]
  std::array<float, kNumColors> bias{};

  bool operator==(const LatentMap&) const = default;
};

// Fits a map to pairs of latents and colours by least squares.
class LatentMapFit {
 public:
  explicit LatentMapFit(std::int64_t channels);

  // `values` has one value per channel; `color` is RGB in 0 to 255.
  void add(std::span<const double> values, const std::array<double, kNumColors>& color);
  // Values that the pairs do not determine, such as those of a constant channel, are small.
  LatentMap solve() const;

 private:
  std::size_t num_inputs_;       // channels, and the constant 1 for the bias
  std::vector<double> moments_;  // [num_inputs, num_inputs]: sums of inputs · inputsᵀ
  std::vector<double> targets_;  // [3, num_inputs]: sums of color · inputs
};

// Adds the pairs of a decoded video of one frame: each value of the latents, and the mean colour of
// the pixels that stem from it. `rgb` is [size.height, size.width, 3].
void add_decoded_frame(const Latents& latents, const VideoSize& size,
                       std::span<const std::uint8_t> rgb, LatentMapFit& fit);

// Fits the map of an engine's decoder to eight videos of one frame and four steps, in the model's
// default size. Throws as Engine::sample() does.
LatentMap fit_latent_map(Engine& engine, Observer& observer);

// Stores the map with the decoder's files, to which it belongs.
void save_latent_map(const std::filesystem::path& path, const LatentMap& map,
                     const std::vector<ModelFile>& decoder);
// Returns nothing if the file does not exist or belongs to another decoder. Throws Error naming the
// file and the key if it is damaged or has another number of channels.
std::optional<LatentMap> load_latent_map(const std::filesystem::path& path, std::int64_t channels,
                                         const std::vector<ModelFile>& decoder);

// Loads the map of an engine's decoder, or fits it and stores it for the next time. A file that is
// damaged or cannot be written is a warning. Without a model's files (random weights) none is used.
LatentMap load_or_fit_latent_map(const std::filesystem::path& path, Engine& engine,
                                 JobObserver& observer);

}  // namespace mochi::job
