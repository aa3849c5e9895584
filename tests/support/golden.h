// Golden files: weights, inputs and outputs of public implementations; see golden/README.md.
#pragma once

#include <gtest/gtest.h>

#include <cstring>
#include <iomanip>
#include <memory>
#include <span>
#include <sstream>
#include <string>
#include <vector>

#include "io/checkpoint.h"
#include "io/json.h"
#include "io/tensor_source.h"
#include "support/relative_error.h"
#include "support/test_data.h"

namespace mochi {

// Records a measured error as a property of the running test, for documentation.
inline void record_error(const std::string& name, double error) {
  std::ostringstream text;
  text << std::scientific << std::setprecision(1) << error;
  testing::Test::RecordProperty(name, text.str());
}

class Golden {
 public:
  explicit Golden(const std::string& name)
      : checkpoint_(Checkpoint::open(golden_folder() / (name + ".safetensors"))) {}

  std::vector<float> values(const std::string& name) const {
    std::vector<float> result(
        static_cast<std::size_t>(checkpoint_->info(name).shape.num_elements()));
    checkpoint_->read_f32(name, result);
    return result;
  }
  Shape shape(const std::string& name) const { return checkpoint_->info(name).shape; }
  std::vector<std::int32_t> ints(const std::string& name) const {
    const std::span<const std::byte> bytes = checkpoint_->stored_rows(name).front().bytes;
    std::vector<std::int32_t> result(bytes.size() / sizeof(std::int32_t));
    std::memcpy(result.data(), bytes.data(), bytes.size());
    return result;
  }
  bool contains(const std::string& name) const { return checkpoint_->contains(name); }

  Tensor tensor(const std::string& name) const {
    Tensor result(DType::kF32, shape(name));
    checkpoint_->read(name, result);
    return result;
  }

  // Returns the error of PyTorch's own bf16 run relative to fp32.
  float bf16_error(const std::string& output) const { return values("bf16_error." + output)[0]; }
  // Returns the limit of bf16 errors, which differ from PyTorch's because roundings occur at other
  // places.
  double bf16_limit(const std::string& output, double factor = 1.1) const {
    return factor * bf16_error(output);
  }

  // Returns the network's parameters under their own names.
  std::shared_ptr<TensorSource> weights() const {
    const std::string prefix = "weights.";
    KeyMappedSource::KeyMap map;
    for (const std::string& name : checkpoint_->names()) {
      if (name.starts_with(prefix)) map[name.substr(prefix.size())] = {{.source_name = name}};
    }
    return std::make_shared<KeyMappedSource>(checkpoint_, std::move(map), prefix);
  }

  // Returns the metadata's config, with the sections of a config.json.
  Json config() const { return parse_json(checkpoint_->metadata().at("config"), "golden"); }

 private:
  std::shared_ptr<const Checkpoint> checkpoint_;
};

}  // namespace mochi
