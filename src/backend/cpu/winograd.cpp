// A tile is 2×2 output pixels of one frame, computed from 4×4 input pixels. Both are transformed
// into 16 positions. At each position the convolution is a matmul over channels and taps in time:
// [tiles, 3·Ci]·[3·Ci, Co]. A thread processes a block of tiles through all frames in order and
// keeps the transforms of three input frames, so that each is transformed once.
#include "backend/cpu/winograd.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cstring>
#include <vector>

#include "backend/cpu/pointers.h"
#include "backend/cpu/register_tile.h"
#include "base/parallel_for.h"

namespace mochi::cpu {
namespace {

constexpr std::int64_t kTaps = 3;  // per direction
constexpr std::int64_t kTileSize = 2;
constexpr std::int64_t kPositions = 16;
// Padding between the positions of a buffer, so that they do not all map to the same cache sets.
constexpr std::int64_t kPositionPadding = 16;
// Larger transformed weights would be fetched from memory again for every block of tiles.
constexpr std::int64_t kMaxWeightElements = std::int64_t{2} << 20;
// A thread's buffers must fit in its L2 cache.
constexpr std::int64_t kBlockElements = std::int64_t{80} << 10;

struct Sizes {
  std::int64_t in_channels, out_channels;
  std::int64_t frames, rows, columns;  // sizes of the output
  std::int64_t tile_columns, num_tiles, block;

  Sizes(const TensorView& x, const TensorView& out)
      : in_channels(x.dim(3)),
        out_channels(out.dim(3)),
        frames(out.dim(0)),
        rows(out.dim(1)),
        columns(out.dim(2)),
        tile_columns((columns + kTileSize - 1) / kTileSize),
        num_tiles((rows + kTileSize - 1) / kTileSize * tile_columns) {
    const std::int64_t per_tile = kPositions * (kTaps * in_channels + out_channels);
    block = std::max<std::int64_t>(kBlockElements / (per_tile * kTileVectors), 1) * kTileVectors;
  }

  // Number of vectors of output channels in one product.
  std::int64_t width() const {
    const std::int64_t num_vectors = out_channels / kLanes;
    return num_vectors % 2 == 0 ? 2 : num_vectors % 3 == 0 ? 3 : 1;
  }
  std::int64_t in_stride() const { return block * in_channels + kPositionPadding; }
  std::int64_t out_stride() const { return block * out_channels + kPositionPadding; }
};

// ---- weights ----

// Transforms one 3×3 kernel into its 16 positions: G·g·Gᵀ.
std::array<float, kPositions> transform_kernel(const float* taps) {
  std::array<std::array<float, kTaps>, 4> half{};  // G·g
  for (std::size_t j = 0; j < kTaps; ++j) {
    const float first = taps[j];
    const float second = taps[kTaps + j];
    const float third = taps[2 * kTaps + j];
    half[0][j] = first;
    half[1][j] = 0.5F * (first + second + third);
    half[2][j] = 0.5F * (first - second + third);
    half[3][j] = third;
  }
  std::array<float, kPositions> result{};
  for (std::size_t i = 0; i < half.size(); ++i) {
    const auto& [first, second, third] = half[i];
    result[4 * i] = first;
    result[4 * i + 1] = 0.5F * (first + second + third);
    result[4 * i + 2] = 0.5F * (first - second + third);
    result[4 * i + 3] = third;
  }
  return result;
}

// Reads the taps of one output and input channel as floats.
std::array<float, kTaps * kTaps * kTaps> read_taps(const TensorView& weight, std::int64_t index) {
  std::array<float, kTaps * kTaps * kTaps> taps{};
  const auto first = index * std::ssize(taps);
  if (weight.dtype() == DType::kF32) {
    std::copy_n(data(weight) + first, taps.size(), taps.begin());
  } else {
    const auto* in = reinterpret_cast<const BFloat16*>(weight.bytes()) + first;
    for (float& tap : taps) {
      tap = std::bit_cast<float>(static_cast<std::uint32_t>((in++)->bits) << 16);
    }
  }
  return taps;
}

// Layout: [position, output group, tap in time, input channel, output channel of the group].
std::vector<float> transform_weights(const TensorView& weight, const Sizes& sizes) {
  const std::int64_t group = sizes.width() * kLanes;
  const std::int64_t num_groups = sizes.out_channels / group;
  std::vector<float> result(
      static_cast<std::size_t>(kPositions * kTaps * sizes.in_channels * sizes.out_channels));
  parallel_for(0, sizes.out_channels, 1, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t i = begin * sizes.in_channels; i < end * sizes.in_channels; ++i) {
      const std::int64_t co = i / sizes.in_channels;
      const std::int64_t ci = i % sizes.in_channels;
      const auto taps = read_taps(weight, i);
      for (std::int64_t t = 0; t < kTaps; ++t) {
        const auto positions = transform_kernel(taps.data() + t * kTaps * kTaps);
        float* target = result.data() +
                        ((co / group * kTaps + t) * sizes.in_channels + ci) * group + co % group;
        for (const float value : positions) {
          *target = value;
          target += num_groups * kTaps * sizes.in_channels * group;
        }
      }
    }
  });
  return result;
}

// ---- input ----

using Square = std::array<std::array<Vec, 4>, 4>;

// Computes Bᵀ·d·B.
void transform_square(Square& d) {
  for (std::size_t j = 0; j < 4; ++j) {
    const Vec second = d[1][j];
    d[0][j] = d[0][j] - d[2][j];
    d[1][j] = second + d[2][j];
    d[2][j] = d[2][j] - second;
    d[3][j] = second - d[3][j];
  }
  for (auto& row : d) {
    const Vec second = row[1];
    row[0] = row[0] - row[2];
    row[1] = second + row[2];
    row[2] = row[2] - second;
    row[3] = second - row[3];
  }
}

// Transforms tiles [first, first + count) of one input frame into [position, tile, channel]. Pixels
// outside the frame affect only outputs outside it, so any value serves for them.
void transform_input(const Sizes& sizes, const float* frame, std::int64_t first, std::int64_t count,
                     float* out) {
  const std::int64_t channels = sizes.in_channels;
  const std::int64_t in_columns = sizes.columns + kTaps - 1;
  for (std::int64_t tile = first; tile < first + count; ++tile, out += channels) {
    const std::int64_t row = tile / sizes.tile_columns * kTileSize;
    const std::int64_t column = tile % sizes.tile_columns * kTileSize;
    std::array<std::array<const float*, 4>, 4> pixels{};
    for (std::int64_t i = 0; i < 4; ++i) {
      const std::int64_t y = std::min(row + i, sizes.rows + kTaps - 2);
      for (std::int64_t j = 0; j < 4; ++j) {
        const std::int64_t x = std::min(column + j, in_columns - 1);
        pixels[i][j] = frame + (y * in_columns + x) * channels;
      }
    }
    for (std::int64_t c = 0; c < channels; c += kLanes) {
      Square d;
      for (std::size_t i = 0; i < 4; ++i) {
        for (std::size_t j = 0; j < 4; ++j) d[i][j] = load(pixels[i][j] + c);
      }
      transform_square(d);
      float* target = out + c;
      for (const auto& line : d) {
        for (const Vec& value : line) {
          store(value, target);
          target += sizes.in_stride();
        }
      }
    }
  }
}

// ---- matmuls ----

// Transforms of three input frames.
using Frames = std::array<const float*, kTaps>;

// Multiplies all positions of a block of tiles, rounded up to whole products: [position, tile,
// channel].
template <std::int64_t Width>
void multiply(const Sizes& sizes, const Frames& frames, const float* weights, std::int64_t count,
              float* out) {
  using Products = RegisterTile<Width>;
  const std::int64_t tap_elements = sizes.in_channels * Products::kColumns;
  for (std::int64_t position = 0; position < kPositions; ++position) {
    for (std::int64_t co = 0; co < sizes.out_channels; co += Products::kColumns) {
      for (std::int64_t first = 0; first < count; first += Products::kRows) {
        Products tile;
        const float* b = weights;
        for (const float* frame : frames) {
          tile.add_product(frame + position * sizes.in_stride() + first * sizes.in_channels,
                           sizes.in_channels, sizes.in_channels, b);
          b += tap_elements;
        }
        float* c = out + position * sizes.out_stride() + first * sizes.out_channels + co;
        tile.for_each([&](std::int64_t row, std::int64_t column, const Vec& sums) {
          store(sums, c + row * sizes.out_channels + column);
        });
      }
      weights += kTaps * tap_elements;
    }
  }
}

// ---- output ----

// Computes Aᵀ·m·A.
std::array<std::array<Vec, 2>, 2> transform_back(const float* m, std::int64_t stride) {
  std::array<std::array<Vec, 4>, 2> half;  // Aᵀ·m
  for (std::size_t j = 0; j < 4; ++j) {
    const auto at = [&](std::size_t i) {
      return load(m + static_cast<std::int64_t>(4 * i + j) * stride);
    };
    const Vec second = at(1);
    const Vec third = at(2);
    half[0][j] = at(0) + second + third;
    half[1][j] = second - third - at(3);
  }
  std::array<std::array<Vec, 2>, 2> result;
  for (std::size_t i = 0; i < 2; ++i) {
    result[i][0] = half[i][0] + half[i][1] + half[i][2];
    result[i][1] = half[i][1] - half[i][2] - half[i][3];
  }
  return result;
}

struct OutputFrame {
  float* pixels;
  const float* residual;  // may be null, or the pixels
  const float* bias;      // may be null
};

void transform_output(const Sizes& sizes, const float* products, std::int64_t first,
                      std::int64_t count, const OutputFrame& frame) {
  const std::int64_t channels = sizes.out_channels;
  for (std::int64_t tile = first; tile < first + count; ++tile, products += channels) {
    const std::int64_t row = tile / sizes.tile_columns * kTileSize;
    const std::int64_t column = tile % sizes.tile_columns * kTileSize;
    for (std::int64_t c = 0; c < channels; c += kLanes) {
      const auto square = transform_back(products + c, sizes.out_stride());
      const Vec bias = frame.bias != nullptr ? load(frame.bias + c) : Vec(0.0F);
      for (std::int64_t i = 0; i < std::min(kTileSize, sizes.rows - row); ++i) {
        for (std::int64_t j = 0; j < std::min(kTileSize, sizes.columns - column); ++j) {
          const std::int64_t pixel = ((row + i) * sizes.columns + column + j) * channels + c;
          Vec value = square[i][j] + bias;
          if (frame.residual != nullptr) value += load(frame.residual + pixel);
          store(value, frame.pixels + pixel);
        }
      }
    }
  }
}

struct Scratch {
  explicit Scratch(const Sizes& sizes)
      : products(static_cast<std::size_t>(kPositions * sizes.out_stride())) {
    for (auto& frame : frames) {
      frame.resize(static_cast<std::size_t>(kPositions * sizes.in_stride()));
    }
  }
  std::array<std::vector<float>, kTaps> frames;  // transforms of input frames, used in turn
  std::vector<float> products;
};

void run_block(const Sizes& sizes, const ops::Conv3d& op, const std::vector<float>& weights,
               std::int64_t first, Scratch& scratch) {
  const std::int64_t count = std::min(sizes.block, sizes.num_tiles - first);
  const std::int64_t in_frame = op.x.num_elements() / op.x.dim(0);
  const std::int64_t out_frame = op.out.num_elements() / op.out.dim(0);
  const auto transformed = [&](std::int64_t frame) {
    return scratch.frames[static_cast<std::size_t>(frame % kTaps)].data();
  };
  for (std::int64_t t = 0; t < op.x.dim(0); ++t) {
    transform_input(sizes, data(op.x) + t * in_frame, first, count, transformed(t));
    const std::int64_t target = t - (kTaps - 1);
    if (target < 0) continue;
    const Frames frames{transformed(target), transformed(target + 1), transformed(target + 2)};
    const auto multiply_by_width = sizes.width() == 3   ? multiply<3>
                                   : sizes.width() == 2 ? multiply<2>
                                                        : multiply<1>;
    multiply_by_width(sizes, frames, weights.data(), count, scratch.products.data());
    transform_output(sizes, scratch.products.data(), first, count,
                     {data(op.out) + target * out_frame,
                      op.residual ? data(op.residual) + target * out_frame : nullptr,
                      op.bias ? data(op.bias) : nullptr});
  }
}

}  // namespace

bool suits_winograd(const ops::Conv3d& op) {
  const Shape& weight = op.weight.shape();
  const bool is_3x3x3 = weight[2] == kTaps && weight[3] == kTaps && weight[4] == kTaps;
  return is_3x3x3 && op.stride == std::array{1, 1, 1} && weight[0] % kLanes == 0 &&
         op.x.dim(3) % kLanes == 0 &&
         kPositions * kTaps * weight[0] * weight[1] <= kMaxWeightElements;
}

void conv3d_winograd(const ops::Conv3d& op) {
  const Sizes sizes(op.x, op.out);
  const std::vector<float> weights = transform_weights(op.weight, sizes);
  const std::int64_t num_blocks = (sizes.num_tiles + sizes.block - 1) / sizes.block;
  parallel_for(0, num_blocks, 1, [&](std::int64_t begin, std::int64_t end) {
    Scratch scratch(sizes);
    for (std::int64_t i = begin; i < end; ++i) {
      run_block(sizes, op, weights, i * sizes.block, scratch);
    }
  });
}

}  // namespace mochi::cpu
