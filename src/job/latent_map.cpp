#include "job/latent_map.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <limits>
#include <string>

#include "base/atomic_file.h"
#include "base/error.h"
#include "io/json.h"
#include "io/resize.h"
#include "job/recipe.h"

namespace mochi::job {
namespace {

// A few steps give latents of plain scenes, whose colours cover the RGB cube.
constexpr int kNumSteps = 4;
constexpr std::array kPrompts{
    "a red ball on a white background",          "a blue cube on a green background",
    "a yellow star on a purple background",      "a large orange ring on a dark background",
    "a white pyramid on a blue background",      "a green ball on a grey background",
    "a large purple cube on a white background", "a black ball on a grey background"};

VideoSize size_of(const GenerateRequest& request) {
  return {request.width, request.height, request.num_frames};
}

// The mean colours of the cells that divide a frame into rows and columns.
std::vector<Color> mean_colors(std::span<const std::uint8_t> rgb, FrameSize frame,
                               FrameSize cells) {
  const int cell_width = frame.width / cells.width;
  const int cell_height = frame.height / cells.height;
  const double share = 1.0 / (static_cast<double>(cell_width) * cell_height);
  std::vector<Color> means(static_cast<std::size_t>(cells.width) *
                           static_cast<std::size_t>(cells.height));
  const std::uint8_t* value = rgb.data();
  for (int y = 0; y < frame.height; ++y) {
    for (int x = 0; x < frame.width; ++x) {
      const int cell_idx = y / cell_height * cells.width + x / cell_width;
      Color& mean = means[static_cast<std::size_t>(cell_idx)];
      for (double& color : mean) color += share * *value++;
    }
  }
  return means;
}

// Calls visit(values) for each term of LatentMap, with its values at `count` positions. `latents`
// is [channels, count].
template <typename Visit>
void visit_terms(std::span<const float> latents, std::size_t count, const Visit& visit) {
  static constexpr float kMost = 3.0F;  // latents that early steps point to may go far beyond
  std::vector<float> clamped(latents.size());
  std::ranges::transform(latents, clamped.begin(),
                         [](float value) { return std::clamp(value, -kMost, kMost); });
  std::vector<float> term(count, 1.0F);
  visit(term.data());
  for (std::size_t i = 0; i < clamped.size(); i += count) visit(&clamped[i]);
  for (std::size_t i = 0; i < clamped.size(); i += count) {
    for (std::size_t j = i; j < clamped.size(); j += count) {
      for (std::size_t k = 0; k < count; ++k) term[k] = clamped[i + k] * clamped[j + k];
      visit(term.data());
    }
  }
}

// Replaces a symmetric positive definite matrix [n, n], of which the lower triangle is read, by its
// Cholesky factor L.
void factorise(std::vector<double>& a, std::size_t n) {
  for (std::size_t row = 0; row < n; ++row) {
    for (std::size_t column = 0; column <= row; ++column) {
      double sum = a[row * n + column];
      for (std::size_t k = 0; k < column; ++k) sum -= a[row * n + k] * a[column * n + k];
      a[row * n + column] = row == column ? std::sqrt(sum) : sum / a[column * n + column];
    }
  }
}

// Replaces b, in `x`, by the solution of L·Lᵀ·x = b.
void solve_with(const std::vector<double>& factor, std::size_t n, std::span<double> x) {
  for (std::size_t row = 0; row < n; ++row) {
    for (std::size_t k = 0; k < row; ++k) x[row] -= factor[row * n + k] * x[k];
    x[row] /= factor[row * n + row];
  }
  for (std::size_t row = n; row-- > 0;) {
    for (std::size_t k = row + 1; k < n; ++k) x[row] -= factor[k * n + row] * x[k];
    x[row] /= factor[row * n + row];
  }
}

Json describe_files(const std::vector<ModelFile>& files) {
  Json json = Json::array();
  for (const ModelFile& file : files) {
    json.push_back({{"size_bytes", file.size_bytes}, {"fingerprint", file.fingerprint}});
  }
  return json;
}

std::vector<float> read_weights(JsonReader& reader, std::size_t count) {
  const std::string key = "weights";
  const std::vector<double> values = reader.get_floats(key, {});
  if (values.size() != count) {
    fail("{}: wanted {} numbers, found {}", reader.locate(key), count, values.size());
  }
  for (const double value : values) {
    if (std::abs(value) > std::numeric_limits<float>::max()) {
      fail("{}: wanted numbers in the range of fp32, found {}", reader.locate(key), value);
    }
  }
  return {values.begin(), values.end()};
}

}  // namespace

std::size_t LatentMap::count_terms(std::int64_t channels) {
  const auto count = static_cast<std::size_t>(channels);
  return 1 + count + count * (count + 1) / 2;
}

void LatentMap::map(std::span<const float> latents, std::span<float> rgb) const {
  const std::size_t count = rgb.size() / kNumColors;
  const std::size_t num_terms = weights.size() / kNumColors;
  std::ranges::fill(rgb, 0.0F);
  std::size_t term = 0;
  visit_terms(latents, count, [&](const float* values) {
    for (std::size_t color = 0; color < kNumColors; ++color) {
      const float weight = weights[color * num_terms + term];
      float* const target = &rgb[color * count];
      for (std::size_t i = 0; i < count; ++i) target[i] += weight * values[i];
    }
    ++term;
  });
}

LatentMapFit::LatentMapFit(std::int64_t channels)
    : num_terms_(LatentMap::count_terms(channels)),
      moments_(num_terms_ * num_terms_),
      targets_(kNumColors * num_terms_) {}

void LatentMapFit::add(std::span<const float> latents, const Color& color) {
  terms_.clear();
  visit_terms(latents, 1, [this](const float* value) { terms_.push_back(*value); });
  for (std::size_t row = 0; row < num_terms_; ++row) {
    double* const moments = &moments_[row * num_terms_];
    for (std::size_t column = 0; column <= row; ++column) {
      moments[column] += terms_[row] * terms_[column];
    }
    for (std::size_t c = 0; c < kNumColors; ++c) {
      targets_[c * num_terms_ + row] += color[c] * terms_[row];
    }
  }
}

LatentMap LatentMapFit::solve(double ridge) const {
  const double num_pairs = moments_.front();
  std::vector<double> factor = moments_;
  for (std::size_t i = 1; i < num_terms_; ++i) factor[i * num_terms_ + i] += ridge * num_pairs;
  factorise(factor, num_terms_);
  LatentMap map;
  for (std::size_t c = 0; c < kNumColors; ++c) {
    const auto first = targets_.begin() + static_cast<std::ptrdiff_t>(c * num_terms_);
    std::vector<double> row(first, first + static_cast<std::ptrdiff_t>(num_terms_));
    solve_with(factor, num_terms_, row);
    map.weights.insert(map.weights.end(), row.begin(), row.end());
  }
  return map;
}

void add_decoded_frame(const Latents& latents, const VideoSize& size,
                       std::span<const std::uint8_t> rgb, LatentMapFit& fit) {
  const auto width = static_cast<std::size_t>(latents.width);
  const std::size_t plane = static_cast<std::size_t>(latents.height) * width;
  const FrameSize frame{size.width, size.height};
  const std::vector<Color> colors =
      mean_colors(rgb, frame, {static_cast<int>(latents.width), static_cast<int>(latents.height)});
  std::vector<float> values(static_cast<std::size_t>(latents.channels));
  for (std::size_t at = 0; at < plane; ++at) {
    for (std::size_t channel = 0; channel < values.size(); ++channel) {
      values[channel] = latents.values[channel * plane + at];
    }
    fit.add(values, colors[at]);
  }
}

LatentMap fit_latent_map(Engine& engine, Observer& observer) {
  GenerateRequest request = engine.model().default_request();
  request.num_frames = 1;
  request.num_steps = kNumSteps;
  request.linear_steps = 0;
  LatentMapFit fit(engine.model().latent_size(size_of(request)).channels);
  std::vector<Latents> samples;
  for (const char* const prompt : kPrompts) {
    request.prompt = prompt;
    ++request.seed;
    samples.push_back(engine.sample(request, observer));
  }
  for (const Latents& latents : samples) {  // afterwards, so that each network is loaded once
    const auto add = [&](std::span<const std::uint8_t> rgb, std::int64_t /*frame_idx*/) {
      add_decoded_frame(latents, size_of(request), rgb, fit);
    };
    engine.decode(latents, add, observer);
  }
  return fit.solve();
}

void save_latent_map(const std::filesystem::path& path, const LatentMap& map,
                     const std::vector<ModelFile>& decoder) {
  const Json json{{"decoder", describe_files(decoder)}, {"weights", map.weights}};
  write_file_atomically(path, json.dump(1) + "\n");
}

std::optional<LatentMap> load_latent_map(const std::filesystem::path& path, std::int64_t channels,
                                         const std::vector<ModelFile>& decoder) {
  if (!std::filesystem::exists(path)) return std::nullopt;
  const Json json = read_json(path);
  JsonReader reader(json, path.string());
  const Json* const found = reader.get_json("decoder");
  if (found == nullptr) fail("{}: is missing", reader.locate("decoder"));
  if (*found != describe_files(decoder)) return std::nullopt;
  LatentMap map{read_weights(reader, kNumColors * LatentMap::count_terms(channels))};
  reader.finish();
  return map;
}

LatentMap load_or_fit_latent_map(const std::filesystem::path& path, Engine& engine,
                                 JobObserver& observer) {
  const ModelInfo& model = engine.model();
  const std::vector<ModelFile> decoder = decoder_files(model.files());
  if (decoder.empty()) return fit_latent_map(engine, observer);
  try {
    const std::int64_t channels = model.latent_size(size_of(model.default_request())).channels;
    const std::optional<LatentMap> loaded = load_latent_map(path, channels, decoder);
    if (loaded) return *loaded;
  } catch (const Error& error) {
    observer.on_warning(fmt::format("the colours of previews are fitted again: {}", error.what()));
  }
  LatentMap map = fit_latent_map(engine, observer);
  try {
    save_latent_map(path, map, decoder);
  } catch (const Error& error) {
    observer.on_warning(fmt::format("the colours of previews are not saved: {}", error.what()));
  }
  return map;
}

}  // namespace mochi::job
