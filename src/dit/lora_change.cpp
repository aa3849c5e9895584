#include "dit/lora_change.h"

#include <algorithm>
#include <cmath>
#include <utility>
#include <vector>

#include "base/error.h"
#include "base/parallel_for.h"

namespace mochi {
namespace {

Tensor read_matrix(const Checkpoint& checkpoint, const std::string& name) {
  Tensor matrix(DType::kF32, checkpoint.info(name).shape);
  checkpoint.read(name, matrix);
  return matrix;
}

std::int64_t num_columns_of(const Tensor& matrix) {
  const Shape& shape = matrix.view().shape();
  return shape.num_elements() / std::max<std::int64_t>(shape[0], 1);
}

// A matrix that is stored whole.
class StoredMatrix final : public LoraChange {
 public:
  explicit StoredMatrix(Tensor values)
      : values_(std::move(values)), num_columns_(num_columns_of(values_)) {}

  void compute_row(std::int64_t row, std::span<float> values) const override {
    std::copy_n(values_.view().f32().data() + row * num_columns_, num_columns_, values.begin());
  }

 private:
  Tensor values_;
  std::int64_t num_columns_;
};

// left · right
class LowRankProduct final : public LoraChange {
 public:
  LowRankProduct(Tensor left, Tensor right)
      : left_(std::move(left)),
        right_(std::move(right)),
        rank_(num_columns_of(left_)),
        num_columns_(num_columns_of(right_)) {}

  void compute_row(std::int64_t row, std::span<float> values) const override {
    const float* const left = left_.view().f32().data() + row * rank_;
    const float* const right = right_.view().f32().data();
    float* const sum = values.data();
    std::ranges::fill(values, 0.0F);
    for (std::int64_t k = 0; k < rank_; ++k) {
      const float factor = left[k];
      const float* const from = right + k * num_columns_;
      for (std::int64_t i = 0; i < num_columns_; ++i) sum[i] += factor * from[i];
    }
  }

 private:
  Tensor left_, right_;
  std::int64_t rank_, num_columns_;
};

// first ∘ second, element by element (LoHa)
class HadamardProduct final : public LoraChange {
 public:
  HadamardProduct(std::unique_ptr<LoraChange> first, std::unique_ptr<LoraChange> second)
      : first_(std::move(first)), second_(std::move(second)) {}

  void compute_row(std::int64_t row, std::span<float> values) const override {
    std::vector<float> factors(values.size());
    first_->compute_row(row, values);
    second_->compute_row(row, factors);
    for (std::size_t i = 0; i < values.size(); ++i) values[i] *= factors[i];
  }

 private:
  std::unique_ptr<LoraChange> first_, second_;
};

// first ⊗ second: a block of the second's size for each element of the first (LoKr)
class KroneckerProduct final : public LoraChange {
 public:
  KroneckerProduct(std::unique_ptr<LoraChange> first, std::unique_ptr<LoraChange> second,
                   const LoraSizes& first_sizes, const LoraSizes& second_sizes)
      : first_(std::move(first)),
        second_(std::move(second)),
        first_sizes_(first_sizes),
        second_sizes_(second_sizes) {}

  void compute_row(std::int64_t row, std::span<float> values) const override {
    std::vector<float> left(static_cast<std::size_t>(first_sizes_.columns));
    std::vector<float> right(static_cast<std::size_t>(second_sizes_.columns));
    first_->compute_row(row / second_sizes_.rows, left);
    second_->compute_row(row % second_sizes_.rows, right);
    float* to = values.data();
    for (const float factor : left) {
      for (const float value : right) *to++ = factor * value;
    }
  }

 private:
  std::unique_ptr<LoraChange> first_, second_;
  LoraSizes first_sizes_, second_sizes_;
};

std::unique_ptr<LoraChange> read_factor(const Checkpoint& checkpoint, const LoraFactor& factor) {
  if (!factor.whole.empty()) {
    return std::make_unique<StoredMatrix>(read_matrix(checkpoint, factor.whole));
  }
  return std::make_unique<LowRankProduct>(read_matrix(checkpoint, factor.left),
                                          read_matrix(checkpoint, factor.right));
}

[[noreturn]] void fail_size(const LoraFile& file, const std::string& name, const Shape& wanted) {
  fail("tensor '{}' in '{}': wanted shape {}, found {}: a LoRA for another model", name,
       file.name(), wanted.to_string(), file.checkpoint().info(name).shape.to_string());
}

// Throws unless the factor alone has these sizes.
void check_factor(const LoraFile& file, const LoraFactor& factor, const LoraSizes& wanted) {
  const Checkpoint& checkpoint = file.checkpoint();
  if (!factor.whole.empty()) {
    const bool is_vector = wanted.columns == 1;
    if (lora_sizes(checkpoint, factor.whole) == wanted) return;
    fail_size(file, factor.whole,
              is_vector ? Shape{wanted.rows} : Shape{wanted.rows, wanted.columns});
  }
  const LoraSizes right = lora_sizes(checkpoint, factor.right);
  const LoraSizes left = lora_sizes(checkpoint, factor.left);
  if (right.columns != wanted.columns) fail_size(file, factor.right, {right.rows, wanted.columns});
  if (left.rows != wanted.rows) fail_size(file, factor.left, {wanted.rows, left.columns});
}

// Throws unless the Kronecker product of both factors has these sizes.
void check_kronecker(const LoraFile& file, const LoraLayer& layer, const LoraSizes& wanted) {
  const LoraSizes first = lora_sizes(file.checkpoint(), layer.factors[0]);
  const LoraSizes second = lora_sizes(file.checkpoint(), layer.factors[1]);
  const auto is_split = [](std::int64_t left, std::int64_t right, std::int64_t product) {
    return left > 0 && product % left == 0 && product / left == right;
  };
  if (is_split(first.rows, second.rows, wanted.rows) &&
      is_split(first.columns, second.columns, wanted.columns)) {
    return;
  }
  fail(
      "tensor '{}' in '{}': wanted a Kronecker product of shape {}, found {} by {}: a LoRA for "
      "another model",
      layer.tensor_names().front(), file.name(), Shape{wanted.rows, wanted.columns}.to_string(),
      Shape{first.rows, first.columns}.to_string(), Shape{second.rows, second.columns}.to_string());
}

// Returns true if the layer has a norm for each row of a weight, not for each column. Throws if it
// has neither.
bool has_row_norms(const LoraFile& file, const LoraLayer& layer, const LoraSizes& weight) {
  const Shape shape = file.checkpoint().info(layer.magnitude).shape;
  const std::int64_t count = shape.num_elements();
  if (count == weight.rows && (layer.magnitude_is_of_rows || shape[0] == count)) return true;
  if (count == weight.columns && !layer.magnitude_is_of_rows && shape[0] == 1) return false;
  const std::string columns =
      layer.magnitude_is_of_rows ? "" : " or " + Shape{1, weight.columns}.to_string();
  fail("tensor '{}' in '{}': wanted shape {}{}, found {}: a LoRA for another model",
       layer.magnitude, file.name(), Shape{weight.rows}.to_string(), columns, shape.to_string());
}

float factor_to(float wanted, double square_sum) {
  return square_sum > 0 ? static_cast<float>(wanted / std::sqrt(square_sum)) : 1.0F;
}

void set_row_norms(std::span<const float> norms, float* values, std::int64_t num_columns) {
  constexpr std::int64_t kGrain = 16;
  parallel_for(0, std::ssize(norms), kGrain, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t row = begin; row < end; ++row) {
      const std::span<float> of_row(values + row * num_columns,
                                    static_cast<std::size_t>(num_columns));
      double square_sum = 0;
      for (const float value : of_row) square_sum += static_cast<double>(value) * value;
      const float factor = factor_to(norms[static_cast<std::size_t>(row)], square_sum);
      for (float& value : of_row) value *= factor;
    }
  });
}

void set_column_norms(std::span<const float> norms, float* values, std::int64_t num_rows) {
  constexpr std::int64_t kGrain = 64;
  const std::int64_t num_columns = std::ssize(norms);
  parallel_for(0, num_columns, kGrain, [&](std::int64_t begin, std::int64_t end) {
    std::vector<double> square_sums(static_cast<std::size_t>(end - begin));
    for (std::int64_t row = 0; row < num_rows; ++row) {
      for (std::int64_t i = begin; i < end; ++i) {
        const double value = values[row * num_columns + i];
        square_sums[static_cast<std::size_t>(i - begin)] += value * value;
      }
    }
    std::vector<float> factors(square_sums.size());
    for (std::size_t i = 0; i < factors.size(); ++i) {
      factors[i] = factor_to(norms[static_cast<std::size_t>(begin) + i], square_sums[i]);
    }
    for (std::int64_t row = 0; row < num_rows; ++row) {
      float* const of_row = values + row * num_columns + begin;
      for (std::size_t i = 0; i < factors.size(); ++i) of_row[i] *= factors[i];
    }
  });
}

}  // namespace

void check_lora_sizes(const LoraFile& file, const LoraLayer& layer, const LoraSizes& wanted) {
  if (layer.kind == LoraKind::kLokr) {
    check_kronecker(file, layer, wanted);
  } else {
    for (const LoraFactor& factor : layer.factors) check_factor(file, factor, wanted);
  }
  if (!layer.magnitude.empty()) has_row_norms(file, layer, wanted);
}

std::unique_ptr<LoraChange> read_lora_change(const Checkpoint& checkpoint, const LoraLayer& layer) {
  std::unique_ptr<LoraChange> first = read_factor(checkpoint, layer.factors.front());
  if (layer.factors.size() == 1) return first;
  std::unique_ptr<LoraChange> second = read_factor(checkpoint, layer.factors.back());
  if (layer.kind == LoraKind::kLoha) {
    return std::make_unique<HadamardProduct>(std::move(first), std::move(second));
  }
  return std::make_unique<KroneckerProduct>(std::move(first), std::move(second),
                                            lora_sizes(checkpoint, layer.factors.front()),
                                            lora_sizes(checkpoint, layer.factors.back()));
}

void apply_lora_magnitude(const LoraFile& file, const LoraLayer& layer, const TensorView& weight) {
  const LoraSizes sizes{weight.dim(0), weight.dim(1)};
  const Tensor norms = read_matrix(file.checkpoint(), layer.magnitude);
  float* const values = weight.f32().data();
  if (has_row_norms(file, layer, sizes)) {
    set_row_norms(norms.view().f32(), values, sizes.columns);
  } else {
    set_column_norms(norms.view().f32(), values, sizes.rows);
  }
}

}  // namespace mochi
