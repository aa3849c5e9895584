#include "hub/plan.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/stat.h>

#include <algorithm>
#include <set>

#include "base/error.h"
#include "base/file_descriptor.h"
#include "base/temp_folder.h"
#include "hub/file_transfer.h"
#include "hub/part_file.h"
#include "hub/sha256.h"

namespace mochi::hub {
namespace {

namespace fs = std::filesystem;

constexpr const char* kAbcSha256 =
    "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";

void expect_valid(const KnownFile& file) {
  EXPECT_NO_THROW(check_remote_path(file.target, "table"));
  EXPECT_NO_THROW(parse_repository(file.repository));
  EXPECT_TRUE(file.sha256.empty() || is_sha256(file.sha256)) << file.path;
  EXPECT_EQ(file.sha256.empty(), file.size == 0) << file.path;
}

TEST(KnownModels, NamesTargetsAndChecksumsAreInOrder) {
  std::set<std::string_view> names;
  for (const KnownModel& model : known_models()) {
    EXPECT_TRUE(names.insert(model.name).second) << model.name;
    std::set<std::string_view> precisions;
    for (const KnownWeights& weights : model.weights) {
      EXPECT_TRUE(precisions.insert(weights.precision).second) << weights.precision;
      std::set<std::string_view> targets;
      std::set<KnownPart> parts = kCompleteModel;
      parts.insert(KnownPart::kEncoder);
      for (const KnownFile& file : files_of(model, weights.precision, parts)) {
        EXPECT_TRUE(targets.insert(file.target).second) << file.target;
        expect_valid(file);
      }
    }
  }
  EXPECT_THROW(find_known_model("none"), InvalidRequest);
}

TEST(KnownModels, ChooseThePrecision) {
  const KnownModel& model = find_known_model("mochi-1-preview");
  EXPECT_EQ(files_of(model, "", kCompleteModel).front().target, "dit.safetensors");
  EXPECT_EQ(files_of(model, "q4_k", kCompleteModel).front().target, "dit.q4_k_m.gguf");
  EXPECT_EQ(message_of<InvalidRequest>([&] { files_of(model, "q2_k", kCompleteModel); }),
            "precision: wanted bf16, fp8, q8_0, q4_k for 'mochi-1-preview', found 'q2_k'");
}

TEST(KnownModels, ChooseTheParts) {
  const auto targets = [](const char* name, const std::set<KnownPart>& parts) {
    std::vector<std::string_view> found;
    for (const KnownFile& file : files_of(find_known_model(name), "", parts)) {
      found.push_back(file.target);
    }
    return found;
  };
  using Targets = std::vector<std::string_view>;
  EXPECT_EQ(targets("mochi-1-preview", {KnownPart::kTokenizer, KnownPart::kDecoder}),
            (Targets{"decoder.safetensors", "tokenizer/spiece.model"}));
  EXPECT_EQ(targets("mochi-1-preview", {KnownPart::kEncoder}), (Targets{"encoder.safetensors"}));
  // One file holds both halves of the VAE.
  EXPECT_EQ(targets("comfyui", {KnownPart::kEncoder}), (Targets{"vae/mochi_vae.safetensors"}));
  EXPECT_EQ(targets("comfyui", {KnownPart::kEncoder, KnownPart::kDecoder}),
            (Targets{"vae/mochi_vae.safetensors"}));
  for (const char* name : {"transformer", "text-encoder", "decoder", "tokenizer", "encoder"}) {
    EXPECT_EQ(name_of(parse_known_part(name).value()), name);
  }
  EXPECT_FALSE(parse_known_part("vae"));
}

TEST(Listing, PatternsSelectFiles) {
  const std::vector<RemoteFile> files{{"a.json"}, {"vae/b.json"}, {"vae/c.bin"}};
  const auto selected = [&](const std::vector<std::string>& patterns) {
    std::string names;
    for (const RemoteFile& file : select_files(files, patterns, "r")) names += file.path + " ";
    return names;
  };
  EXPECT_EQ(selected({}), "a.json vae/b.json vae/c.bin ");
  EXPECT_EQ(selected({"*.json"}), "a.json vae/b.json ");
  EXPECT_EQ(selected({"vae/"}), "vae/b.json vae/c.bin ");
  EXPECT_EQ(selected({"?.json", "*.b[ai]n"}), "a.json vae/c.bin ");
  expect_contains(message_of<Error>([&] { selected({"*.json", "x"}); }), "no file matches 'x'");
}

TEST(Plan, AKnownFileMustBeTheOneThatIsKnown) {
  const KnownFile pinned{"a/b", "c", "d", 3, kAbcSha256};
  const PlannedFile planned = plan_known_file(pinned, {{"x"}, {"c", 3, kAbcSha256}});
  EXPECT_EQ(planned.target, "d");
  EXPECT_TRUE(planned.is_pinned);
  expect_contains(message_of<Error>([&] { plan_known_file(pinned, {{"c", 4, kAbcSha256}}); }),
                  "wanted 3 bytes");
  expect_contains(message_of<Error>([&] { plan_known_file(pinned, {{"x"}}); }), "no file 'c'");
  EXPECT_EQ(plan_known_file({"a/b", "c", "d"}, {{"c", 7}}).size, 7U);
}

TEST(Plan, SegmentsKeepAllConnectionsBusy) {
  EXPECT_EQ(segment_bytes(std::uint64_t{1} << 40, 8), std::uint64_t{64} << 20);
  EXPECT_EQ(segment_bytes(1, 8), std::uint64_t{4} << 20);
  EXPECT_EQ(segment_bytes(std::uint64_t{256} << 20, 8), std::uint64_t{16} << 20);
}

TEST(Plan, SizesInWords) {
  EXPECT_EQ(format_bytes(999), "999 B");
  EXPECT_EQ(format_bytes(1000), "1.00 kB");
  EXPECT_EQ(format_bytes(20'055'467'768), "20.1 GB");
}

TEST(Plan, TheFolderIsCompared) {
  const TempFolder folder;
  const PlannedFile file{{"a/b"}, "c", "c", 3, kAbcSha256};
  const auto state = [&] {
    return survey({file}, folder.path(), Records(folder.path())).front().state;
  };
  EXPECT_EQ(state(), FileState::kMissing);
  folder.write("c.part.json", R"({"etag": "x", "size": 3, "done": [[0, 2]]})");
  EXPECT_EQ(state(), FileState::kPartial);
  folder.write("c", "abc");
  EXPECT_EQ(state(), FileState::kUnverified);
  fs::create_directory(folder / ".mochi-download");
  Records(folder.path()).add("c", folder / "c", kAbcSha256);
  EXPECT_EQ(state(), FileState::kComplete);
  folder.write("c", "changed");
  expect_contains(message_of<Error>(state), "is in the way: it has 7 bytes");
}

TEST(Sha256, OfAFileThatGrows) {
  const TempFolder folder;
  PartFile part(folder / "a", "etag", 3);
  const auto write = [&](std::uint64_t offset, const std::string& text) {
    part.write(offset, std::as_bytes(std::span(text)));
  };
  write(1, "bc");
  EXPECT_FALSE(part.is_complete());
  write(0, "a");
  ASSERT_TRUE(part.is_complete());
  EXPECT_EQ(part.sha256([] {}), kAbcSha256);
  part.commit();
  EXPECT_EQ(read_text(folder / "a"), "abc");
  EXPECT_EQ(folder.num_entries(), 1U);
}

TEST(Sha256, ReportsHowFarItIs) {
  const TempFolder folder;
  constexpr std::size_t kNumBytes = 3'000'000;
  const fs::path path = folder.write("a", std::string(kNumBytes, 'x'));
  const FileDescriptor file(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
  std::vector<std::uint64_t> ends;
  {
    PrefixHasher hasher(file.get(), path, [&](std::uint64_t end) { ends.push_back(end); });
    hasher.finish(kNumBytes, [] {});
  }
  EXPECT_GT(ends.size(), 1U);
  EXPECT_TRUE(std::ranges::is_sorted(ends));
  EXPECT_EQ(ends.back(), kNumBytes);
}

TEST(PartFile, ContinuesTheSameVersionOnly) {
  const TempFolder folder;
  const std::string text = "ab";
  PartFile(folder / "a", "one", 3).write(0, std::as_bytes(std::span(text)));
  EXPECT_EQ(PartFile(folder / "a", "one", 3).done().num_bytes(), 2U);
  EXPECT_EQ(PartFile(folder / "a", "two", 3).done().num_bytes(), 0U);
  EXPECT_EQ(PartFile(folder / "a", "one", 3).done().num_bytes(), 0U);
}

TEST(PartFile, ReservesItsSpace) {
  const TempFolder folder;
  constexpr std::uint64_t kNumBytes = std::uint64_t{1} << 20;
  const FileDescriptor probe(
      ::open((folder / "probe").c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600));
  if (::fallocate(probe.get(), 0, 0, kNumBytes) != 0) GTEST_SKIP() << "this file system cannot";
  const PartFile part(folder / "a", "one", kNumBytes);
  struct stat facts{};
  ASSERT_EQ(::stat((folder / "a.part").c_str(), &facts), 0);
  EXPECT_EQ(facts.st_size, 0);
  constexpr std::uint64_t kBlockBytes = 512;
  EXPECT_GE(static_cast<std::uint64_t>(facts.st_blocks) * kBlockBytes, kNumBytes);
}

TEST(PartFile, JournalsAreReadAsTheyWereWritten) {
  const Journal journal{"\"x\"", 100, RangeSet({{0, 10}, {90, 100}})};
  const Journal read = parse_journal(format_journal(journal), "journal");
  EXPECT_EQ(read.etag, journal.etag);
  EXPECT_EQ(read.size, 100U);
  EXPECT_EQ(read.done.ranges(), journal.done.ranges());
  for (const char* text : {"", "{}", "[]", R"({"etag": "a", "size": 1, "done": [[0, 2]]})",
                           R"({"etag": "a", "size": 9, "done": [[3, 3]]})",
                           R"({"etag": "a", "size": 9, "done": [[-1, 3]]})"}) {
    EXPECT_THROW(parse_journal(text, "journal"), Error) << text;
  }
}

}  // namespace
}  // namespace mochi::hub
