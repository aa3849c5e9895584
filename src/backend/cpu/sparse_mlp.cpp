// Feed-forward layers that recompute some hidden columns of each block of tokens.
#include <algorithm>
#include <bit>
#include <cmath>
#include <vector>

#include "backend/cpu/implement.h"
#include "backend/cpu/pointers.h"
#include "backend/cpu/register_tile.h"
#include "backend/cpu/simd_math.h"
#include "base/parallel_for.h"

namespace mochi::cpu {
namespace {

using MlpTile = RegisterTile<kTileVectors / 6, 6>;

// Number of tokens processed at a time: whole tiles, both when tokens are a tile's columns and when
// they are its rows.
constexpr std::int64_t kTokenTile = 192;
static_assert(kTokenTile % MlpTile::kColumns == 0 && kTokenTile % MlpTile::kRows == 0);

std::vector<float> make_buffer(std::int64_t size) {
  return std::vector<float>(static_cast<std::size_t>(size));
}
// Reads elements [first, first + count) of a matrix weight as floats.
void read_weights(const TensorView& weight, std::int64_t first, std::int64_t count, float* to) {
  if (weight.dtype() == DType::kF32) {
    std::copy_n(data(weight) + first, count, to);
    return;
  }
  const auto* from = reinterpret_cast<const BFloat16*>(weight.bytes()) + first;
  for (std::int64_t i = 0; i < count; ++i) {
    to[i] = std::bit_cast<float>(static_cast<std::uint32_t>(from[i].bits) << 16);
  }
}

struct Layer {
  TensorView x, w1, w2_rows;
  std::int64_t num_tokens() const { return x.dim(0); }
  std::int64_t width() const { return x.dim(1); }
  std::int64_t hidden() const { return w2_rows.dim(0); }
};

// Updates one block of tokens at a time, on the calling thread. The gates a and values b of the
// listed columns are computed as [columns, tokens], so that rows of w1 are read in place and only
// the tokens are transposed.
class BlockUpdate {
 public:
  BlockUpdate(const Layer& layer, const ops::ColumnSparseMlp& op, std::int64_t max_columns)
      : layer_(layer),
        op_(op),
        w1_stride_(layer.width() + kLanes),
        w1_(make_buffer(2 * round_up(max_columns, MlpTile::kRows) * w1_stride_)),
        w2_(make_buffer(max_columns * round_up(layer.width(), MlpTile::kColumns))),
        x_(make_buffer(kTokenTile * layer.width())),
        gates_and_values_(make_buffer(2 * round_up(max_columns, MlpTile::kRows) * kTokenTile)),
        changes_(make_buffer(max_columns * kTokenTile)),
        row_(make_buffer(layer.width())),
        sums_(make_buffer(2 * round_up(max_columns, MlpTile::kRows))) {}

  void run(std::int64_t block, const std::int32_t* columns, std::int64_t num_columns) {
    if (num_columns == 0) return;
    columns_ = columns;
    num_columns_ = num_columns;
    first_value_ = round_up(num_columns, MlpTile::kRows);
    gather_w1();
    gather_w2();
    std::ranges::fill(sums_, 0.0F);
    const std::int64_t begin = block * op_.columns.group_size;
    const std::int64_t end = std::min(begin + op_.columns.group_size, layer_.num_tokens());
    for (std::int64_t first = begin; first < end; first += kTokenTile) {
      const std::int64_t count = std::min(kTokenTile, end - first);
      pack_tokens(first, count);
      find_gates_and_values(count);
      activate(count);
      update_activations(first, count);
      add_to_output(first, count);
    }
    write_means(block, end - begin);
  }

 private:
  // Gates are in the rows from 0 on, values from first_value_ on. The odd stride maps neighbouring
  // rows to different cache sets.
  void gather_w1() {
    const std::int64_t width = layer_.width();
    for (std::int64_t j = 0; j < num_columns_; ++j) {
      read_weights(layer_.w1, columns_[j] * width, width, w1_.data() + j * w1_stride_);
      read_weights(layer_.w1, (layer_.hidden() + columns_[j]) * width, width,
                   w1_.data() + (first_value_ + j) * w1_stride_);
    }
  }

  // Layout: [width / kColumns, columns, kColumns].
  void gather_w2() {
    const std::int64_t width = layer_.width();
    for (std::int64_t j = 0; j < num_columns_; ++j) {
      read_weights(layer_.w2_rows, columns_[j] * width, width, row_.data());
      for (std::int64_t feature = 0; feature < width; feature += MlpTile::kColumns) {
        std::copy_n(row_.data() + feature, std::min(MlpTile::kColumns, width - feature),
                    w2_.data() + feature * num_columns_ + j * MlpTile::kColumns);
      }
    }
  }

  // Layout: [tokens / kColumns, width, kColumns]. Elements after the last token are never used.
  void pack_tokens(std::int64_t first, std::int64_t count) {
    const std::int64_t width = layer_.width();
    for (std::int64_t i = 0; i < count; ++i) {
      const float* row = data(layer_.x) + (first + i) * width;
      float* target =
          x_.data() + i / MlpTile::kColumns * MlpTile::kColumns * width + i % MlpTile::kColumns;
      for (std::int64_t k = 0; k < width; ++k) target[k * MlpTile::kColumns] = row[k];
    }
  }

  void find_gates_and_values(std::int64_t count) {
    const std::int64_t width = layer_.width();
    for (std::int64_t token = 0; token < count; token += MlpTile::kColumns) {
      for (std::int64_t row = 0; row < 2 * first_value_; row += MlpTile::kRows) {
        MlpTile tile;
        tile.add_product(w1_.data() + row * w1_stride_, w1_stride_, width,
                         x_.data() + token * width);
        float* target = gates_and_values_.data() + row * kTokenTile + token;
        tile.for_each([target](std::int64_t i, std::int64_t column, const Vec& sums) {
          store(sums, target + i * kTokenTile + column);
        });
      }
    }
  }

  // Replaces the rows of gates by activations.
  void activate(std::int64_t count) {
    for (std::int64_t j = 0; j < num_columns_; ++j) {
      float* gates = gates_and_values_.data() + j * kTokenTile;
      const float* values = gates + first_value_ * kTokenTile;
      float gate_sum = 0.0F;
      float value_sum = 0.0F;
#pragma omp simd reduction(+ : gate_sum, value_sum)
      for (std::int64_t i = 0; i < count; ++i) {
        gate_sum += gates[i];
        value_sum += values[i];
        gates[i] = silu(gates[i]) * values[i];
      }
      sums_[j] += gate_sum;
      sums_[first_value_ + j] += value_sum;
    }
  }

  // Stores the change of the activations in changes_ [tokens / kRows, columns, kRows].
  void update_activations(std::int64_t first, std::int64_t count) {
    float* cached = data(op_.activations) + first * layer_.hidden();
    for (std::int64_t i = 0; i < count; ++i, cached += layer_.hidden()) {
      const float* activations = gates_and_values_.data() + i;
      float* changes =
          changes_.data() + i / MlpTile::kRows * MlpTile::kRows * num_columns_ + i % MlpTile::kRows;
      for (std::int64_t j = 0; j < num_columns_; ++j) {
        const float activation = activations[j * kTokenTile];
        changes[j * MlpTile::kRows] = activation - cached[columns_[j]];
        cached[columns_[j]] = activation;
      }
    }
  }

  // out += changes · w2.
  void add_to_output(std::int64_t first, std::int64_t count) {
    const std::int64_t width = layer_.width();
    for (std::int64_t feature = 0; feature < width; feature += MlpTile::kColumns) {
      for (std::int64_t row = 0; row < count; row += MlpTile::kRows) {
        MlpTile tile;
        tile.add_product<MlpTile::kRows>(changes_.data() + row * num_columns_, 1, num_columns_,
                                         w2_.data() + feature * num_columns_);
        float* target = data(op_.out) + (first + row) * width + feature;
        tile.for_each([=](std::int64_t i, std::int64_t column, const Vec& sums) {
          if (row + i >= count) return;
          float* out = target + i * width + column;
          const std::int64_t num_left = width - feature - column;
          if (num_left >= kLanes) {
            store(load(out) + sums, out);
          } else {
            for (std::int64_t lane = 0; lane < num_left; ++lane) out[lane] += sums[lane];
          }
        });
      }
    }
  }

  void write_means(std::int64_t block, std::int64_t num_tokens) {
    float* gates = data(op_.means) + block * 2 * layer_.hidden();
    float* values = gates + layer_.hidden();
    const auto count = static_cast<float>(num_tokens);
    for (std::int64_t j = 0; j < num_columns_; ++j) {
      gates[columns_[j]] = sums_[j] / count;
      values[columns_[j]] = sums_[first_value_ + j] / count;
    }
  }

  const Layer& layer_;
  const ops::ColumnSparseMlp& op_;
  const std::int32_t* columns_ = nullptr;
  std::int64_t num_columns_ = 0, first_value_ = 0, w1_stride_;
  std::vector<float> w1_, w2_, x_, gates_and_values_, changes_, row_;
  std::vector<float> sums_;  // sums of gates and values over the block's tokens
};

}  // namespace

void run(Cpu& /*cpu*/, const ops::FindMovement& op) {
  const std::int64_t hidden = op.scores.dim(2);
  parallel_for(0, op.means.dim(0), 1, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t block = begin; block < end; ++block) {
      const float* now = data(op.means) + block * 2 * hidden;
      const float* before = data(op.former) + block * 2 * hidden;
      float* score = data(op.scores) + block * hidden;
#pragma omp simd
      for (std::int64_t j = 0; j < hidden; ++j) {
        score[j] = std::abs(now[j] - before[j]) + std::abs(now[hidden + j] - before[hidden + j]);
      }
    }
  });
}
template void compute(Cpu&, const ops::FindMovement&);

void run(Cpu& /*cpu*/, const ops::ColumnSparseMlp& op) {
  const Layer layer{op.x, op.w1.dense(), op.w2_rows};
  const std::int64_t num_blocks = op.columns.offsets.dim(0) - 1;
  const std::int32_t* offsets = ints(op.columns.offsets);
  std::int64_t longest = 0;
  for (std::int64_t i = 0; i < num_blocks; ++i) {
    longest = std::max<std::int64_t>(longest, offsets[i + 1] - offsets[i]);
  }
  parallel_for(0, num_blocks, 1, [&](std::int64_t begin, std::int64_t end) {
    BlockUpdate update(layer, op, longest);
    for (std::int64_t block = begin; block < end; ++block) {
      update.run(block, ints(op.columns.columns) + offsets[block],
                 offsets[block + 1] - offsets[block]);
    }
  });
}
template void compute(Cpu&, const ops::ColumnSparseMlp&);

}  // namespace mochi::cpu
