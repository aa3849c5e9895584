// Files of made-up LoRA tensors.
#pragma once

#include <deque>
#include <filesystem>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "base/noise.h"
#include "io/safetensors.h"

namespace mochi {

class LoraTensors {
 public:
  void add(const std::string& name, const Shape& shape) {
    std::vector<float> values(static_cast<std::size_t>(shape.num_elements()));
    fill_normal(NoiseSource::kMochi, values_.size(), values);
    add(name, shape, std::move(values));
  }
  void add(const std::string& name, const Shape& shape, std::vector<float> values) {
    values_.push_back(std::move(values));
    tensors_.push_back({name, DType::kF32, shape, std::as_bytes(std::span(values_.back()))});
  }
  void add(const std::string& name, DType dtype, const Shape& shape,
           std::span<const std::byte> bytes) {
    tensors_.push_back({name, dtype, shape, bytes});  // bytes are the caller's
  }
  void write(const std::filesystem::path& path,
             const std::map<std::string, std::string>& metadata = {}) const {
    write_safetensors(path, tensors_, metadata);
  }

 private:
  std::deque<std::vector<float>> values_;  // stay where they are
  std::vector<NamedTensor> tensors_;
};

}  // namespace mochi
