#include "io/checkpoint.h"

#include <gtest/gtest.h>

#include <bit>
#include <cmath>
#include <limits>
#include <numeric>
#include <string>
#include <vector>

#include "base/error.h"
#include "base/mapped_file.h"
#include "base/temp_folder.h"
#include "tensor/float_arrays.h"

namespace mochi {
namespace {

namespace fs = std::filesystem;

// Writes files of F32 tensors whose elements count up from a start value.
class CheckpointFiles : public testing::Test {
 protected:
  struct Spec {
    std::string name;
    Shape shape;
    float start;
  };

  fs::path write(const std::string& file_name, const std::vector<Spec>& specs) const {
    std::vector<std::vector<float>> values;
    std::vector<NamedTensor> tensors;
    for (const Spec& spec : specs) {
      auto& elements = values.emplace_back(static_cast<std::size_t>(spec.shape.num_elements()));
      std::iota(elements.begin(), elements.end(), spec.start);
      tensors.push_back({spec.name, DType::kF32, spec.shape, std::as_bytes(std::span(elements))});
    }
    write_safetensors(folder_ / file_name, tensors);
    return folder_ / file_name;
  }

  static std::vector<float> read(const TensorSource& source, const std::string& name) {
    std::vector<float> values(static_cast<std::size_t>(source.info(name).shape.num_elements()));
    source.read_f32(name, values);
    return values;
  }

  std::string open_error(const fs::path& path) const {
    return message_of<Error>([&] { Checkpoint::open(path); });
  }

  const TempFolder folder_;
};

TEST_F(CheckpointFiles, OneFile) {
  const auto path = write("a.safetensors", {{"x", {2, 2}, 1}, {"y", {3}, 10}});
  const auto checkpoint = Checkpoint::open(path);
  EXPECT_EQ(checkpoint->names(), (std::vector<std::string>{"x", "y"}));
  EXPECT_TRUE(checkpoint->contains("x"));
  EXPECT_FALSE(checkpoint->contains("z"));
  EXPECT_EQ(checkpoint->info("x").type, StorageType(DType::kF32));
  EXPECT_EQ(checkpoint->info("x").shape.to_string(), "[2, 2]");
  EXPECT_EQ(checkpoint->info("x").origin, path.string());
  EXPECT_EQ(read(*checkpoint, "x"), (std::vector<float>{1, 2, 3, 4}));
  EXPECT_EQ(checkpoint->file_of("y"), path);
}

TEST_F(CheckpointFiles, AFileInMemoryIsLikeOneOnDisk) {
  const MappedFile stored(write("a.safetensors", {{"x", {2, 2}, 1}, {"y", {3}, 10}}));
  const auto checkpoint = Checkpoint::from_bytes(stored.bytes(), stored.path());
  const auto on_disk = Checkpoint::open(stored.path());
  EXPECT_EQ(checkpoint->names(), on_disk->names());
  EXPECT_EQ(checkpoint->files(), on_disk->files());
  EXPECT_EQ(checkpoint->description(), on_disk->description());
  for (const std::string& name : on_disk->names()) {
    EXPECT_EQ(read(*checkpoint, name), read(*on_disk, name)) << name;
  }
  expect_contains(message_of<Error>([&] { Checkpoint::from_bytes({}, "no.safetensors"); }),
                  "'no.safetensors' is empty, not a safetensors file");
}

TEST_F(CheckpointFiles, ReportsWhatNobodyRead) {
  const auto checkpoint =
      Checkpoint::open(write("a.safetensors", {{"x", {1}, 0}, {"y", {1}, 0}, {"z", {1}, 0}}));
  EXPECT_EQ(checkpoint->unread().size(), 3U);
  checkpoint->info("x");
  read(*checkpoint, "y");
  EXPECT_EQ(checkpoint->unread(), (std::vector<std::string>{"x", "z"}));
}

TEST_F(CheckpointFiles, ErrorsNameTensorFileWantedAndFound) {
  const auto path = write("a.safetensors", {{"blocks.0.weight", {2, 3}, 0}});
  const auto checkpoint = Checkpoint::open(path);
  const std::string missing = message_of<Error>([&] { checkpoint->info("blocks.0.wieght"); });
  expect_contains(missing, "no tensor 'blocks.0.wieght'");
  expect_contains(missing, path.string());
  expect_contains(missing, "did you mean 'blocks.0.weight'?");
  const std::string shape =
      message_of<Error>([&] { checkpoint->require("blocks.0.weight", {3, 2}); });
  EXPECT_EQ(shape, "tensor 'blocks.0.weight' in '" + path.string() +
                       "': wanted shape [3, 2], found [2, 3]");
  std::vector<float> small(5);
  expect_contains(message_of<Error>([&] { checkpoint->read_f32("blocks.0.weight", small); }),
                  "wanted 5 elements, found [2, 3]");
}

TEST_F(CheckpointFiles, RefusesWeightsOfOtherTypesAndRanks) {
  const std::string header =
      R"({"long": {"dtype": "I64", "shape": [1], "data_offsets": [0, 8]},)"
      R"("int": {"dtype": "I32", "shape": [1], "data_offsets": [8, 12]},)"
      R"("deep": {"dtype": "U8", "shape": [1,1,1,1,1,1], "data_offsets": [12, 13]}})";
  const std::uint64_t length = header.size();
  const std::string content(reinterpret_cast<const char*>(&length), sizeof(length));
  const auto path = folder_.write("a.safetensors", content + header + std::string(13, '\0'));
  const auto checkpoint = Checkpoint::open(path);
  expect_contains(message_of<Error>([&] { checkpoint->info("long"); }), "dtype I64");
  expect_contains(message_of<Error>([&] { checkpoint->info("deep"); }), "at most 5 dimensions");
  float value = 0;
  expect_contains(message_of<Error>([&] { checkpoint->read_f32("int", {&value, 1}); }),
                  "wanted F32, found I32");
  EXPECT_EQ(checkpoint->entry("long").dtype_name, "I64");
}

TEST_F(CheckpointFiles, ReadConvertsBetweenFloatTypes) {
  const auto checkpoint = Checkpoint::open(write("a.safetensors", {{"x", {3}, 1.00390625F}}));
  std::vector<BFloat16> rounded(3);
  checkpoint->read("x", TensorView(rounded.data(), DType::kBF16, {3}));
  EXPECT_EQ(bf16_to_f32(rounded[0].bits), 1.0F);  // a tie, to even
  EXPECT_EQ(bf16_to_f32(rounded[1].bits), 2.0F);
  std::vector<float> same(3);
  checkpoint->read("x", TensorView(same.data(), DType::kF32, {3}));
  EXPECT_EQ(same[2], 3.00390625F);
}

TEST_F(CheckpointFiles, ValuesThatAreNotFiniteAreRefused) {
  const float infinity = std::numeric_limits<float>::infinity();
  for (const float bad : {infinity, -infinity, std::numeric_limits<float>::quiet_NaN()}) {
    std::vector<float> values(1000, 1.0F);
    values[777] = bad;
    const NamedTensor tensor{"x", DType::kF32, {1000}, std::as_bytes(std::span(values))};
    write_safetensors(folder_ / "a.safetensors", {&tensor, 1});
    const auto checkpoint = Checkpoint::open(folder_ / "a.safetensors");
    EXPECT_EQ(message_of<Error>([&] { read(*checkpoint, "x"); }),
              "tensor 'x' in '" + (folder_ / "a.safetensors").string() +
                  "': has values that are not finite (NaN or infinite)");
  }
}

// One element of each type that can hold a number.
template <typename T>
void expect_number(const TempFolder& folder, const std::string& dtype, T value, double wanted) {
  for (const char* shape : {"[]", "[1]"}) {
    const std::string header = R"({"n": {"dtype": ")" + dtype + R"(", "shape": )" + shape +
                               R"(, "data_offsets": [0, )" + std::to_string(sizeof(T)) + "]}}";
    const std::uint64_t length = header.size();
    std::string content(reinterpret_cast<const char*>(&length), sizeof(length));
    content += header + std::string(reinterpret_cast<const char*>(&value), sizeof(value));
    const auto checkpoint = Checkpoint::open(folder.write("n.safetensors", content));
    EXPECT_EQ(checkpoint->number("n"), wanted) << dtype;
    EXPECT_TRUE(checkpoint->unread().empty());
  }
}

TEST_F(CheckpointFiles, NumbersOfAnyType) {
  expect_number(folder_, "F64", 2.5, 2.5);
  expect_number(folder_, "F32", 2.5F, 2.5);
  expect_number(folder_, "I64", std::int64_t{-4}, -4.0);
  expect_number(folder_, "U64", std::uint64_t{4}, 4.0);
  expect_number(folder_, "I32", std::int32_t{-4}, -4.0);
  expect_number(folder_, "U32", std::uint32_t{4}, 4.0);
  expect_number(folder_, "I16", std::int16_t{-4}, -4.0);
  expect_number(folder_, "U16", std::uint16_t{4}, 4.0);
  expect_number(folder_, "I8", std::int8_t{-4}, -4.0);
  expect_number(folder_, "U8", std::uint8_t{4}, 4.0);
  expect_number(folder_, "BF16", std::uint16_t{0x4080}, 4.0);
  expect_number(folder_, "F16", std::uint16_t{0x4400}, 4.0);
  expect_number(folder_, "F8_E4M3", std::uint8_t{0x48}, 4.0);
  const auto many = Checkpoint::open(write("a.safetensors", {{"x", {2}, 0}}));
  expect_contains(message_of<Error>([&] { many->number("x"); }),
                  "wanted one number, found F32 [2]");
}

TEST_F(CheckpointFiles, DoublesAreReadAsFloats) {
  const std::string header = R"({"x": {"dtype": "F64", "shape": [2], "data_offsets": [0, 16]}})";
  const std::uint64_t length = header.size();
  const double values[] = {0.1, -3.0};
  const std::string content = std::string(reinterpret_cast<const char*>(&length), sizeof(length)) +
                              header +
                              std::string(reinterpret_cast<const char*>(values), sizeof(values));
  const auto checkpoint = Checkpoint::open(folder_.write("d.safetensors", content));
  EXPECT_EQ(checkpoint->info("x").type, StorageType(DType::kF32));
  EXPECT_EQ(read(*checkpoint, "x"), (std::vector<float>{0.1F, -3.0F}));
}

TEST_F(CheckpointFiles, HiddenFilesArePassedOver) {
  write("a.safetensors", {{"x", {1}, 1}});
  folder_.write("._a.safetensors", "Mac OS X");
  folder_.write("._a.safetensors.index.json", "Mac OS X");
  EXPECT_EQ(read(*Checkpoint::open(folder_.path()), "x"), (std::vector<float>{1}));
}

TEST_F(CheckpointFiles, DanglingLinksAreNamed) {
  fs::create_symlink("gone", folder_ / "a.safetensors");
  EXPECT_EQ(open_error(folder_ / "a.safetensors"),
            "cannot open '" + (folder_ / "a.safetensors").string() +
                "': it is a link to 'gone', which does not exist");
}

TEST_F(CheckpointFiles, ManyFiles) {
  const std::vector<fs::path> paths{write("a.safetensors", {{"x", {1}, 1}}),
                                    write("b.safetensors", {{"y", {1}, 2}})};
  const auto checkpoint = Checkpoint::open_files(paths);
  EXPECT_EQ(checkpoint->names(), (std::vector<std::string>{"x", "y"}));
  EXPECT_EQ(checkpoint->files(), paths);
  EXPECT_EQ(Checkpoint::open(folder_.path())->names(), checkpoint->names());

  const std::vector<fs::path> twice{paths[0], write("c.safetensors", {{"x", {1}, 1}})};
  const std::string message = message_of<Error>([&] { Checkpoint::open_files(twice); });
  expect_contains(message, "tensor 'x' is in both");
  expect_contains(message, "c.safetensors");
}

class ShardedCheckpoint : public CheckpointFiles {
 protected:
  ShardedCheckpoint() {
    write("model-1.safetensors", {{"x", {2}, 1}, {"unlisted", {1}, 0}});
    write("model-2.safetensors", {{"y", {2}, 3}});
  }

  fs::path write_index(const std::string& weight_map) const {
    return folder_.write("model.safetensors.index.json",
                         R"({"metadata": {"total_size": 16}, "weight_map": )" + weight_map + "}");
  }
};

TEST_F(ShardedCheckpoint, GivesTheSameAsOneFile) {
  const auto index = write_index(R"({"x": "model-1.safetensors", "y": "model-2.safetensors"})");
  for (const fs::path& path : {index, folder_.path()}) {
    const auto checkpoint = Checkpoint::open(path);
    EXPECT_EQ(checkpoint->names(), (std::vector<std::string>{"x", "y"}));
    EXPECT_EQ(read(*checkpoint, "x"), (std::vector<float>{1, 2}));
    EXPECT_EQ(read(*checkpoint, "y"), (std::vector<float>{3, 4}));
    EXPECT_EQ(checkpoint->file_of("y"), folder_ / "model-2.safetensors");
  }
}

TEST_F(ShardedCheckpoint, RefusesMissingShardsAndTensors) {
  expect_contains(open_error(write_index(R"({"x": "model-3.safetensors"})")),
                  "1 of its 1 shards do not exist: 'model-3.safetensors'");
  expect_contains(open_error(write_index(R"({"x": "model-2.safetensors"})")),
                  "shard 'model-2.safetensors' does not hold tensor 'x'");
  expect_contains(open_error(write_index("[]")), "'weight_map'");
  expect_contains(open_error(write_index(R"({"x": 1})")), "no string");
  expect_contains(open_error(folder_.write("b.index.json", "[1]")), "'weight_map'");
}

TEST_F(ShardedCheckpoint, RefusesShardsOutsideOfTheFolder) {
  for (const char* shard : {"../a.safetensors", "/a.safetensors", "sub/a.safetensors", "..", ".",
                            "", "..\\\\a", "a\\u0000b"}) {
    const auto index = write_index(R"({"x": ")" + std::string(shard) + "\"}");
    expect_contains(open_error(index), "is not a plain file name");
  }
}

TEST_F(CheckpointFiles, FolderPrefersTheFilesWithoutVariant) {
  write("model.safetensors", {{"x", {1}, 1}});
  write("model.fp16.safetensors", {{"x", {1}, 2}});
  EXPECT_EQ(read(*Checkpoint::open(folder_.path()), "x"), (std::vector<float>{1}));
  fs::remove(folder_ / "model.safetensors");
  EXPECT_EQ(read(*Checkpoint::open(folder_.path()), "x"), (std::vector<float>{2}));
}

TEST_F(CheckpointFiles, FolderPrefersTheIndexWithoutVariant) {
  write("m-1.safetensors", {{"x", {1}, 1}});
  write("m.bf16-1.safetensors", {{"x", {1}, 2}});
  folder_.write("m.safetensors.index.json", R"({"weight_map": {"x": "m-1.safetensors"}})");
  folder_.write("m.safetensors.index.bf16.json", "not an index");
  folder_.write("m.bf16.safetensors.index.json",
                R"({"weight_map": {"x": "m.bf16-1.safetensors"}})");
  EXPECT_EQ(read(*Checkpoint::open(folder_.path()), "x"), (std::vector<float>{1}));
  folder_.write("n.safetensors.index.json", R"({"weight_map": {}})");
  expect_contains(open_error(folder_.path()), "give the file instead");
}

TEST_F(CheckpointFiles, NothingToOpen) {
  expect_contains(open_error(folder_.path()), "holds no *.safetensors file");
  expect_contains(open_error(folder_ / "missing"), "no such file or folder");
  EXPECT_THROW(Checkpoint::open_files({}), Error);
}

class KeyMapped : public CheckpointFiles {
 protected:
  std::shared_ptr<KeyMappedSource> map(KeyMappedSource::KeyMap key_map, std::string prefix = "") {
    checkpoint_ = Checkpoint::open(
        write("a.safetensors", {{"q", {2, 2}, 0}, {"k", {1, 2}, 10}, {"wide", {1, 3}, 20}}));
    return std::make_shared<KeyMappedSource>(checkpoint_, std::move(key_map), std::move(prefix));
  }

  std::shared_ptr<Checkpoint> checkpoint_;
};

TEST_F(KeyMapped, RenamesAndConcatenatesAndPicksRows) {
  const auto source = map({{"renamed", {{"k"}}},
                           {"joined", {{"q"}, {"k", 0, 1}}},
                           {"swapped", {{"q", 1, 2}, {"q", 0, 1}}}});
  EXPECT_EQ(source->names(), (std::vector<std::string>{"joined", "renamed", "swapped"}));
  EXPECT_EQ(read(*source, "renamed"), (std::vector<float>{10, 11}));
  EXPECT_EQ(source->info("joined").shape.to_string(), "[3, 2]");
  EXPECT_EQ(read(*source, "joined"), (std::vector<float>{0, 1, 2, 3, 10, 11}));
  EXPECT_EQ(read(*source, "swapped"), (std::vector<float>{2, 3, 0, 1}));
}

TEST_F(KeyMapped, MapsOfMaps) {
  const auto inner = map({{"joined", {{"q"}, {"k", 0, 1}}}});
  const KeyMappedSource outer(inner, {{"tail", {{"joined", 1, RowRange::kToEnd}}}});
  EXPECT_EQ(read(outer, "tail"), (std::vector<float>{2, 3, 10, 11}));
}

TEST_F(KeyMapped, ErrorsNameTheStoredTensor) {
  const auto source = map({{"absent", {{"qq"}}},
                           {"uneven", {{"q"}, {"wide", 0, 1}}},
                           {"unequal", {{"q"}, {"k"}}},
                           {"beyond", {{"q", 1, 3}}}});
  EXPECT_FALSE(source->contains("absent"));
  EXPECT_FALSE(source->contains("q"));
  EXPECT_TRUE(source->contains("beyond"));
  expect_contains(message_of<Error>([&] { source->info("absent"); }), "no tensor 'qq'");
  expect_contains(message_of<Error>([&] { source->info("uneven"); }),
                  "wanted rows like those of 'q' [2, 2], found [1, 3]");
  expect_contains(message_of<Error>([&] { source->info("unequal"); }), "tensor 'k' in");
  expect_contains(message_of<Error>([&] { source->info("unequal"); }),
                  "wanted as many rows as 'q' [2, 2], found [1, 2]");
  expect_contains(message_of<Error>([&] { source->info("beyond"); }), "wanted rows 1 to 3");
  expect_contains(message_of<Error>([&] { source->info("unlisted"); }), "no tensor 'unlisted'");
}

TEST_F(KeyMapped, RowsThatOverflowAreRefused) {
  const Shape no_bytes{std::int64_t{1} << 62, 0};
  const auto checkpoint = Checkpoint::open(write("b.safetensors", {{"a", no_bytes, 0}}));
  const KeyMappedSource source(checkpoint, {{"joined", {{"a"}, {"a"}}}});
  expect_contains(message_of<Error>([&] { source.info("joined"); }), "number of rows is too large");
}

TEST_F(KeyMapped, UnreadAreTheStoredNamesOfThePrefix) {
  const auto source = map({{"renamed", {{"k"}}}});
  EXPECT_EQ(source->unread(), (std::vector<std::string>{"k", "q", "wide"}));
  read(*source, "renamed");
  EXPECT_EQ(source->unread(), (std::vector<std::string>{"q", "wide"}));
  EXPECT_EQ(KeyMappedSource(checkpoint_, {}, "wi").unread(), (std::vector<std::string>{"wide"}));
}

}  // namespace
}  // namespace mochi
