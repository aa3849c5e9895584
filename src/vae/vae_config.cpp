#include "vae/vae_config.h"

#include <algorithm>
#include <cmath>
#include <string>

#include "base/error.h"
#include "io/json.h"

namespace mochi {
namespace {

// Limit with which the product of their factors cannot overflow.
constexpr std::size_t kMaxUpBlocks = 8;
constexpr std::int64_t kMaxResBlocks = 256;
constexpr std::int64_t kMaxFactor = 16;
constexpr std::int64_t kMaxFrequency = 64;

std::int64_t product(const std::vector<std::int64_t>& values) {
  std::int64_t result = 1;
  for (const std::int64_t value : values) result *= value;
  return result;
}

// Checks of single fields. Every message begins with the field's full name.
class Checks {
 public:
  explicit Checks(const std::string& prefix) : prefix_(prefix) {}

  void size(const char* field, std::int64_t value, std::int64_t max) const {
    if (value < 1 || value > max) {
      fail("{}{}: wanted a number from 1 to {}, found {}", prefix_, field, max, value);
    }
  }
  void sizes(const char* field, const std::vector<std::int64_t>& values, std::size_t num_values,
             std::int64_t max) const {
    count(field, values.size(), num_values);
    for (const std::int64_t value : values) size(field, value, max);
  }
  void count(const char* field, std::size_t found, std::size_t wanted) const {
    if (found != wanted) {
      fail("{}{}: wanted {} values, found {}", prefix_, field, wanted, found);
    }
  }
  void divisible(const char* field, std::int64_t value, const char* what,
                 std::int64_t divisor) const {
    if (value % divisor != 0) {
      fail("{}{}: {} is not a multiple of {} = {}", prefix_, field, value, what, divisor);
    }
  }
  void statistics(const VaeConfig& config) const {
    const auto num_channels = static_cast<std::size_t>(config.latent_channels);
    count("latent_mean", config.latent_mean.size(), num_channels);
    count("latent_std", config.latent_std.size(), num_channels);
    for (const double mean : config.latent_mean) {
      if (!std::isfinite(mean)) fail("{}latent_mean: {} is not finite", prefix_, mean);
    }
    for (const double std : config.latent_std) {
      if (!(std > 0.0) || !std::isfinite(std)) {
        fail("{}latent_std: wanted numbers above 0, found {}", prefix_, std);
      }
    }
  }

 private:
  const std::string& prefix_;
};

}  // namespace

std::int64_t VaeConfig::spatial_compression() const { return product(spatial_factors); }

std::int64_t VaeConfig::temporal_compression() const { return product(temporal_factors); }

std::int64_t VaeConfig::num_frames(std::int64_t num_latent_frames) const {
  return temporal_compression() * (num_latent_frames - 1) + 1;
}

std::int64_t VaeConfig::num_latent_frames(std::int64_t num_frames) const {
  const std::int64_t factor = temporal_compression();
  if (num_frames < 1 || (num_frames - 1) % factor != 0) {
    fail("number of frames: wanted a multiple of {} plus 1, found {}", factor, num_frames);
  }
  return (num_frames - 1) / factor + 1;
}

void VaeConfig::validate(const std::string& prefix) const {
  const Checks check(prefix);
  check.size("latent_channels", latent_channels, kMaxSize);
  check.size("norm_groups", norm_groups, kMaxSize);
  check.size("encoder_attention_head_dim", encoder_attention_head_dim, kMaxSize);
  // The factors determine the number of up blocks, and with it all other lengths.
  const std::size_t num_up = temporal_factors.size();
  if (num_up < 1 || num_up > kMaxUpBlocks) {
    fail("{}temporal_factors: wanted 1 to {} values, found {}", prefix, kMaxUpBlocks, num_up);
  }
  check.sizes("temporal_factors", temporal_factors, num_up, kMaxFactor);
  check.sizes("spatial_factors", spatial_factors, num_up, kMaxFactor);
  check.sizes("decoder_channels", decoder_channels, num_up + 1, kMaxSize);
  check.sizes("decoder_res_blocks", decoder_res_blocks, num_up + 2, kMaxResBlocks);
  check.sizes("encoder_channels", encoder_channels, num_up + 1, kMaxSize);
  check.sizes("encoder_res_blocks", encoder_res_blocks, num_up + 2, kMaxResBlocks);
  check.count("encoder_attention", encoder_attention.size(), num_up + 2);
  check.size("temporal_factors (their product)", temporal_compression(), kMaxSize);
  check.size("spatial_factors (their product)", spatial_compression(), kMaxSize);
  for (const std::int64_t channels : decoder_channels) {
    check.divisible("decoder_channels", channels, "norm_groups", norm_groups);
  }
  for (std::size_t stage = 0; stage < encoder_attention.size(); ++stage) {
    const std::int64_t channels = encoder_channels[std::min(stage, num_up)];
    check.divisible("encoder_channels", channels, "norm_groups", norm_groups);
    if (encoder_attention[stage]) {
      check.divisible("encoder_channels", channels, "encoder_attention_head_dim",
                      encoder_attention_head_dim);
    }
  }
  for (const std::int64_t frequency : fourier_frequencies) {
    if (frequency < -kMaxFrequency || frequency > kMaxFrequency) {
      fail("{}fourier_frequencies: wanted exponents from {} to {}, found {}", prefix,
           -kMaxFrequency, kMaxFrequency, frequency);
    }
  }
  check.statistics(*this);
}

VaeConfig parse_vae_config(JsonReader& section) {
  VaeConfig config;
  config.latent_channels = section.get_int("latent_channels", config.latent_channels);
  config.norm_groups = section.get_int("norm_groups", config.norm_groups);
  config.decoder_channels = section.get_ints("decoder_channels", config.decoder_channels);
  config.decoder_res_blocks = section.get_ints("decoder_res_blocks", config.decoder_res_blocks);
  config.encoder_channels = section.get_ints("encoder_channels", config.encoder_channels);
  config.encoder_res_blocks = section.get_ints("encoder_res_blocks", config.encoder_res_blocks);
  config.encoder_attention = section.get_bools("encoder_attention", config.encoder_attention);
  config.encoder_attention_head_dim =
      section.get_int("encoder_attention_head_dim", config.encoder_attention_head_dim);
  config.temporal_factors = section.get_ints("temporal_factors", config.temporal_factors);
  config.spatial_factors = section.get_ints("spatial_factors", config.spatial_factors);
  config.fourier_frequencies = section.get_ints("fourier_frequencies", config.fourier_frequencies);
  config.latent_mean = section.get_floats("latent_mean", config.latent_mean);
  config.latent_std = section.get_floats("latent_std", config.latent_std);
  section.finish();
  config.validate(section.locate(""));
  return config;
}

}  // namespace mochi
