// Files made by the public safetensors library and PyTorch.
#include <gtest/gtest.h>

#include <cmath>
#include <filesystem>
#include <string>

#include "io/checkpoint.h"
#include "io/same_tensors.h"
#include "tensor/float_arrays.h"

namespace mochi {
namespace {

const std::filesystem::path kFormats = std::filesystem::path(MOCHI_GOLDEN_DIR) / "formats";

// All values of a tensor, also those that are not finite, which are not read as weights.
std::vector<float> convert_all(const TensorSource& source, const std::string& name) {
  const std::vector<StoredRows> rows = source.stored_rows(name);
  std::vector<float> values(static_cast<std::size_t>(rows.at(0).shape.num_elements()));
  convert_to_f32(std::get<DType>(rows[0].type), rows[0].bytes, values);
  return values;
}

class FloatFormats : public testing::TestWithParam<const char*> {};

TEST_P(FloatFormats, ConvertAsInPyTorch) {
  const auto checkpoint = Checkpoint::open(kFormats / "dtypes.safetensors");
  const std::string name = GetParam();
  const std::vector<float> found = convert_all(*checkpoint, "input." + name);
  const std::vector<float> wanted = convert_all(*checkpoint, "output." + name);
  ASSERT_EQ(found.size(), wanted.size());
  ASSERT_GE(found.size(), 256U);
  for (std::size_t i = 0; i < found.size(); ++i) {
    EXPECT_TRUE(found[i] == wanted[i] || (std::isnan(found[i]) && std::isnan(wanted[i])))
        << "element " << i << ": " << found[i] << " and " << wanted[i];
    EXPECT_TRUE(std::isnan(wanted[i]) || std::signbit(found[i]) == std::signbit(wanted[i])) << i;
  }
}

INSTANTIATE_TEST_SUITE_P(All, FloatFormats, testing::Values("f16", "bf16", "f8_e4m3", "f8_e5m2"));

TEST(Sharded, GivesTheSameTensorsAsOneFile) {
  expect_same_tensors(*Checkpoint::open(kFormats / "dit_sharded"),
                      *Checkpoint::open(kFormats / "dit_f32.safetensors"));
}

class StoredTypes : public testing::TestWithParam<std::pair<const char*, DType>> {};

TEST_P(StoredTypes, AreReadFromTheHeader) {
  const auto [suffix, dtype] = GetParam();
  const auto checkpoint =
      Checkpoint::open(kFormats / (std::string("dit_") + suffix + ".safetensors"));
  const auto full = Checkpoint::open(kFormats / "dit_f32.safetensors");
  EXPECT_EQ(checkpoint->names(), full->names());
  for (const std::string& name : full->names()) {
    EXPECT_EQ(checkpoint->info(name).type, StorageType(dtype)) << name;
  }
}

INSTANTIATE_TEST_SUITE_P(All, StoredTypes,
                         testing::Values(std::pair{"f32", DType::kF32},
                                         std::pair{"f16", DType::kF16},
                                         std::pair{"bf16", DType::kBF16},
                                         std::pair{"f8_e4m3", DType::kF8E4M3},
                                         std::pair{"f8_e5m2", DType::kF8E5M2}));

}  // namespace
}  // namespace mochi
