// Copies, elementwise operations and row norms that every network uses.
#include <algorithm>
#include <array>
#include <cmath>
#include <cstring>
#include <vector>

#include "backend/cpu/cpu_backend.h"
#include "backend/cpu/onednn.h"
#include "backend/cpu/pointers.h"
#include "backend/cpu/simd_math.h"
#include "base/parallel_for.h"

namespace mochi {

namespace {

// out = activate(a)·b for rows (a | b) of x.
template <typename Activate>
void gate_rows(const TensorView& x, const TensorView& out, Activate activate) {
  const std::int64_t features = out.dim(1);
  const std::int64_t grain = std::max<std::int64_t>(1, kElementGrain / (features + 1));
  parallel_for(0, out.dim(0), grain, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t row = begin; row < end; ++row) {
      const float* a = data(x) + row * 2 * features;
      const float* b = a + features;
      float* y = data(out) + row * features;
#pragma omp simd
      for (std::int64_t i = 0; i < features; ++i) y[i] = activate(a[i]) * b[i];
    }
  });
}

template <typename Element>
void transpose_rows(const TensorView& x, const TensorView& out) {
  const std::int64_t num_rows = out.dim(0);
  const std::int64_t width = out.dim(1);
  const auto* from = reinterpret_cast<const Element*>(x.bytes());
  auto* to = reinterpret_cast<Element*>(out.bytes());
  const std::int64_t grain = std::max<std::int64_t>(1, kElementGrain / (width + 1));
  parallel_for(0, num_rows, grain, [=](std::int64_t begin, std::int64_t end) {
    for (std::int64_t row = begin; row < end; ++row) {
      for (std::int64_t i = 0; i < width; ++i) to[row * width + i] = from[i * num_rows + row];
    }
  });
}

}  // namespace

CpuBackend::CpuBackend() : onednn_(std::make_unique<cpu::OneDnn>()) {}
CpuBackend::~CpuBackend() = default;

void CpuBackend::do_upload(const TensorView& host, const TensorView& target) {
  std::memcpy(target.bytes(), host.bytes(), host.size_bytes());
}

void CpuBackend::do_download(const TensorView& source, const TensorView& host) {
  std::memcpy(host.bytes(), source.bytes(), source.size_bytes());
}

void CpuBackend::do_copy(const TensorView& source, const TensorView& target) {
  const std::byte* from = source.bytes();
  std::byte* to = target.bytes();
  const auto num_bytes = static_cast<std::int64_t>(source.size_bytes());
  parallel_for(0, num_bytes, kElementGrain * 4, [=](std::int64_t begin, std::int64_t end) {
    std::memcpy(to + begin, from + begin, static_cast<std::size_t>(end - begin));
  });
}

void CpuBackend::do_add(const TensorView& a, const TensorView& b, const TensorView& out) {
  const float* left = data(a);
  const float* right = data(b);
  float* result = data(out);
  parallel_for(0, a.num_elements(), kElementGrain, [=](std::int64_t begin, std::int64_t end) {
#pragma omp simd
    for (std::int64_t i = begin; i < end; ++i) result[i] = left[i] + right[i];
  });
}

void CpuBackend::do_silu(const TensorView& x, const TensorView& out) {
  const float* in = data(x);
  float* result = data(out);
  parallel_for(0, x.num_elements(), kElementGrain, [=](std::int64_t begin, std::int64_t end) {
#pragma omp simd
    for (std::int64_t i = begin; i < end; ++i) result[i] = cpu::silu(in[i]);
  });
}

void CpuBackend::do_mean_rows(const TensorView& x, const TensorView& out, std::int64_t block_size) {
  const std::int64_t width = x.dim(1);
  parallel_for(0, out.dim(0), 1, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t block = begin; block < end; ++block) {
      const std::int64_t first = block * block_size;
      const std::int64_t num_rows = std::min(block_size, x.dim(0) - first);
      float* mean = data(out) + block * width;
      std::fill(mean, mean + width, 0.0F);
      for (std::int64_t row = first; row < first + num_rows; ++row) {
        const float* in = data(x) + row * width;
        for (std::int64_t i = 0; i < width; ++i) mean[i] += in[i];
      }
      const float factor = num_rows > 0 ? 1.0F / static_cast<float>(num_rows) : 0.0F;
      for (std::int64_t i = 0; i < width; ++i) mean[i] *= factor;
    }
  });
}

void CpuBackend::do_transpose(const TensorView& x, const TensorView& out) {
  if (x.dtype() == DType::kF32) {
    transpose_rows<float>(x, out);
  } else {
    transpose_rows<BFloat16>(x, out);
  }
}

void CpuBackend::do_gated_activation(const TensorView& x, Activation activation,
                                     const TensorView& out) {
  switch (activation) {
    case Activation::kNone:
      return gate_rows(x, out, [](float a) { return a; });
    case Activation::kSilu:
      return gate_rows(x, out, [](float a) { return cpu::silu(a); });
    case Activation::kGeluTanh:
      return gate_rows(x, out, [](float a) { return cpu::gelu_tanh(a); });
  }
}

void CpuBackend::do_embedding(std::span<const std::int32_t> ids, const TensorView& table,
                              const TensorView& out) {
  const std::int64_t width = table.dim(1);
  for (std::size_t row = 0; row < ids.size(); ++row) {
    const std::int64_t first = ids[row] * width;
    float* y = data(out) + static_cast<std::int64_t>(row) * width;
    if (table.dtype() == DType::kF32) {
      std::memcpy(y, data(table) + first, static_cast<std::size_t>(width) * sizeof(float));
      continue;
    }
    const auto* in = reinterpret_cast<const BFloat16*>(table.bytes()) + first;
    for (std::int64_t i = 0; i < width; ++i) {
      y[i] = std::bit_cast<float>(static_cast<std::uint32_t>(in[i].bits) << 16);
    }
  }
}

void CpuBackend::do_gather_rows(const TensorView& x, const TensorView& indices,
                                const TensorView& out) {
  const std::int64_t width = x.dim(1);
  const auto* index = reinterpret_cast<const std::int32_t*>(indices.bytes());
  const std::int64_t grain = std::max<std::int64_t>(1, kElementGrain / (width + 1));
  parallel_for(0, out.dim(0), grain, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t row = begin; row < end; ++row) {
      std::copy_n(data(x) + index[row] * width, width, data(out) + row * width);
    }
  });
}

void CpuBackend::do_guided_euler(const TensorView& v_cond, const TensorView& v_null, float cfg,
                                 float dsigma, const TensorView& z) {
  const float* cond = data(v_cond);
  const float* null = data(v_null);
  float* state = data(z);
  parallel_for(0, z.num_elements(), kElementGrain, [=](std::int64_t begin, std::int64_t end) {
#pragma omp simd
    for (std::int64_t i = begin; i < end; ++i) {
      state[i] += dsigma * (null[i] + cfg * (cond[i] - null[i]));
    }
  });
}

void CpuBackend::do_weighted_sum(const TensorView& a, float weight_a, const TensorView& b,
                                 float weight_b, const TensorView& out) {
  const float* x = data(a);
  const float* y = data(b);
  float* sum = data(out);
  parallel_for(0, out.num_elements(), kElementGrain, [=](std::int64_t begin, std::int64_t end) {
#pragma omp simd
    for (std::int64_t i = begin; i < end; ++i) sum[i] = weight_a * x[i] + weight_b * y[i];
  });
}

// Sums are taken per block of a fixed size, so that they do not depend on the number of threads.
void CpuBackend::do_difference_norms(const TensorView& a, const TensorView& b, Arena& /*scratch*/,
                                     const TensorView& out) {
  constexpr std::int64_t kBlock = 1 << 14;
  const std::int64_t size = b.num_elements();
  std::vector<std::array<double, 2>> sums(static_cast<std::size_t>((size + kBlock - 1) / kBlock));
  const float* x = data(a);
  const float* y = data(b);
  parallel_for(0, std::ssize(sums), 1, [&, x, y](std::int64_t begin, std::int64_t end) {
    for (std::int64_t block = begin; block < end; ++block) {
      double difference = 0;
      double norm = 0;
      const std::int64_t stop = std::min(size, (block + 1) * kBlock);
#pragma omp simd reduction(+ : difference, norm)
      for (std::int64_t i = block * kBlock; i < stop; ++i) {
        const double d = static_cast<double>(x[i]) - y[i];
        difference += d * d;
        norm += static_cast<double>(y[i]) * y[i];
      }
      sums[static_cast<std::size_t>(block)] = {difference, norm};
    }
  });
  std::array<double, 2> total{};
  for (const auto& sum : sums) {
    total[0] += sum[0];
    total[1] += sum[1];
  }
  for (std::size_t i = 0; i < 2; ++i) data(out)[i] = static_cast<float>(std::sqrt(total[i]));
}

}  // namespace mochi
