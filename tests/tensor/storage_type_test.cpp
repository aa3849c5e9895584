#include "tensor/storage_type.h"

#include <gtest/gtest.h>

#include <array>
#include <vector>

#include "base/error.h"
#include "tensor/float8.h"

namespace mochi {
namespace {

TEST(StorageTypes, HaveNamesAndSizes) {
  EXPECT_STREQ(storage_type_name(DType::kBF16), "BF16");
  EXPECT_STREQ(storage_type_name(BlockFormat::kQ4K), "Q4_K");
  EXPECT_EQ(storage_bytes(DType::kF32, 7), 28U);
  EXPECT_EQ(storage_bytes(BlockFormat::kQ8_0, 64), 68U);
  EXPECT_EQ(storage_bytes(BlockFormat::kQ4K, 512), 288U);
  EXPECT_THROW(storage_bytes(BlockFormat::kQ4K, 32), Error);
}

TEST(StorageTypes, AreCompactIfSmallerThanBF16) {
  for (const StorageType type : {StorageType(DType::kF8E4M3), StorageType(DType::kF8E5M2),
                                 StorageType(DType::kI8), StorageType(BlockFormat::kQ2K)}) {
    EXPECT_TRUE(is_compact(type)) << storage_type_name(type);
  }
  for (const DType dtype : {DType::kF32, DType::kF16, DType::kBF16, DType::kI32, DType::kU8}) {
    EXPECT_FALSE(is_compact(dtype)) << dtype_name(dtype);
  }
}

TEST(WidenRows, MultipliesByTheScales) {
  const std::array<std::int8_t, 4> elements{1, -2, 3, -128};
  const auto bytes = std::as_bytes(std::span(elements));
  const auto widened = [&](const std::vector<float>& scales) {
    std::vector<float> values(4);
    widen_rows(DType::kI8, bytes, scales, 2, values);
    return values;
  };
  EXPECT_EQ(widened({}), (std::vector<float>{1, -2, 3, -128}));
  EXPECT_EQ(widened({0.5F}), (std::vector<float>{0.5F, -1, 1.5F, -64}));
  EXPECT_EQ(widened({0.5F, 2}), (std::vector<float>{0.5F, -1, 6, -256}));
}

TEST(WidenRows, DecodesFloatsAndBlocks) {
  const std::array<std::uint8_t, 2> floats{f32_to_f8_e4m3(1.5F), f32_to_f8_e4m3(-448.0F)};
  std::vector<float> values(2);
  widen_rows(DType::kF8E4M3, std::as_bytes(std::span(floats)), {}, 1, values);
  EXPECT_EQ(values, (std::vector<float>{1.5F, -448.0F}));

  std::vector<float> wanted(64);
  for (std::size_t i = 0; i < wanted.size(); ++i) wanted[i] = static_cast<float>(i) - 30.0F;
  std::vector<std::byte> blocks(storage_bytes(BlockFormat::kQ8_0, 64));
  quantize(BlockFormat::kQ8_0, wanted, blocks);
  dequantize(BlockFormat::kQ8_0, blocks, wanted);
  std::vector<float> found(64);
  widen_rows(BlockFormat::kQ8_0, blocks, {}, 2, found);
  EXPECT_EQ(found, wanted);
}

TEST(WidenRows, RefusesWrongSizesAndTypes) {
  std::vector<float> values(4);
  const std::vector<std::byte> bytes(4);
  EXPECT_THROW(widen_rows(DType::kI8, std::span(bytes).first(3), {}, 2, values), Error);
  EXPECT_THROW(widen_rows(DType::kU8, bytes, {}, 2, values), Error);
  EXPECT_THROW(widen_rows(DType::kI8, bytes, {}, 8, values), Error);  // less than one in each row
}

TEST(WidenRows, TakesRowsWithoutElements) {
  EXPECT_NO_THROW(widen_rows(DType::kI8, {}, {}, 3, {}));
  EXPECT_NO_THROW(widen_rows(BlockFormat::kQ8_0, {}, {}, 1, {}));
  EXPECT_NO_THROW(widen_rows(DType::kI8, {}, {}, 0, {}));
}

TEST(AllFinite, LooksAtTheScalesOfBlocks) {
  std::vector<std::byte> blocks(2 * bytes_per_block(BlockFormat::kQ6K));
  EXPECT_TRUE(all_finite(BlockFormat::kQ6K, blocks));
  blocks[210 + 209] = std::byte{0x7c};  // infinity, the scale of the second block
  EXPECT_FALSE(all_finite(BlockFormat::kQ6K, blocks));
}

}  // namespace
}  // namespace mochi
