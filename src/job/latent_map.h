// A map from latents to colours: a picture of latents for which no decoder has to run.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <optional>
#include <span>
#include <vector>

#include "job/job.h"
#include "mochi/mochi.h"

namespace mochi::job {

inline constexpr std::size_t kNumColors = 3;
using Color = std::array<double, kNumColors>;  // RGB in 0 to 255

// The colour of a position is a quadratic polynomial of its latents, which are clamped to ±3. Its
// terms are 1, the channels in order, and the products of channels i and j ≥ i in order.
struct LatentMap {
  std::vector<float> weights;  // [3, number of terms]

  static std::size_t count_terms(std::int64_t channels);
  // `latents` is [channels, count]; `rgb`, [3, count], receives values that may lie outside of 0 to
  // 255.
  void map(std::span<const float> latents, std::span<float> rgb) const;

  bool operator==(const LatentMap&) const = default;
};

// Fits a map to pairs of latents and colours by least squares.
class LatentMapFit {
 public:
  static constexpr double kRidge = 0.01;

  explicit LatentMapFit(std::int64_t channels);

  // `latents` has one value per channel.
  void add(std::span<const float> latents, const Color& color);
  // `ridge` is the penalty on the square of each weight but the constant one, relative to the mean
  // squared error. It must be above 0 if the pairs do not determine all weights.
  LatentMap solve(double ridge = kRidge) const;

 private:
  std::size_t num_terms_;
  std::vector<double> terms_;    // the latest pair's
  std::vector<double> moments_;  // [num_terms, num_terms]: sums of terms · termsᵀ, lower triangle
  std::vector<double> targets_;  // [3, num_terms]: sums of color · terms
};

// Adds the pairs of a decoded video of one frame: the latents of each position, and the mean colour
// of the pixels that stem from it. `rgb` is [size.height, size.width, 3].
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
