#include "pipeline/model_directory.h"

#include <fmt/format.h>
#include <gtest/gtest.h>

#include <array>
#include <variant>

#include "base/error.h"
#include "base/temp_folder.h"
#include "io/checkpoint.h"
#include "mochi/inspect.h"
#include "mochi/mochi.h"
#include "pipeline/networks.h"
#include "pipeline/tiny_model.h"
#include "support/gguf_bytes.h"
#include "support/test_data.h"

namespace mochi {
namespace {

namespace fs = std::filesystem;

const fs::path kGoldens(MOCHI_GOLDEN_DIR);
const fs::path kFormats = kGoldens / "formats";
class ModelFolder : public testing::Test {
 protected:
  // Puts a golden file or folder into the model folder under a name.
  void put(const std::string& golden, const std::string& name) const {
    fs::create_directories((folder_ / name).parent_path());
    fs::copy(kFormats / golden, folder_ / name, fs::copy_options::recursive);
  }
  // For the VAE of the goldens: no tensor shows its number of norm groups.
  void write_vae_config() const {
    folder_.write("config.json", R"({"model_type": "mochi",
      "dit": {"depth": 2, "num_heads": 2, "hidden_size_x": 8, "hidden_size_y": 6, "text_width": 8},
      "text_encoder": {"hidden_size": 8},
      "vae": {"norm_groups": 4, "decoder_channels": [12, 12, 8, 4],
              "decoder_res_blocks": [1, 1, 1, 1, 1], "encoder_channels": [4, 8, 12, 16],
              "encoder_res_blocks": [1, 1, 1, 1, 1], "encoder_attention_head_dim": 4}})");
  }
  ModelDirectory open() const { return ModelDirectory(folder_.path()); }
  std::string open_error() const {
    return message_of<Error>([&] { ModelDirectory{folder_.path()}; });
  }
  // Why a network of the folder cannot be used.
  std::string error_of(Component component) const {
    const ModelDirectory directory = open();
    return message_of<Error>([&] { directory.stored(component); });
  }
  fs::path file_of(Component component) const {
    return fs::relative(open().stored(component)->files().front(), folder_.path());
  }

  const TempFolder folder_;
};

TEST_F(ModelFolder, OriginalNamesWithConfig) {
  write_tiny_model(folder_.path(), golden_tokenizer());
  const ModelDirectory directory = open();
  EXPECT_TRUE(directory.has_config_file());
  EXPECT_EQ(directory.config().dit.depth, 2);
  EXPECT_EQ(directory.config().generation.fps, 24);
  for (const Component component : kAllComponents) EXPECT_TRUE(directory.has(component));
  EXPECT_EQ(file_of(Component::kDit), "dit.safetensors");
  EXPECT_EQ(file_of(Component::kTextEncoder), "text_encoder/model.safetensors");
  EXPECT_EQ(directory.tokenizer(), folder_ / "tokenizer/spiece.model");
  EXPECT_EQ(directory.files().size(), 6U);
}

TEST_F(ModelFolder, OriginalNamesWithoutConfig) {
  put("dit_bf16.safetensors", "dit.safetensors");
  put("t5_sharded", "text_encoder");
  const ModelDirectory directory = open();
  EXPECT_FALSE(directory.has_config_file());
  EXPECT_EQ(directory.config().dit.depth, 2);
  EXPECT_EQ(directory.config().dit.text_width, 8);
  EXPECT_EQ(directory.config().text_encoder.hidden_size, 12);
  EXPECT_EQ(directory.config().generation.num_steps, 64);
  EXPECT_EQ(directory.files().size(), 3U);
}

TEST_F(ModelFolder, DiffusersFolders) {
  put("diffusers/transformer", "transformer");
  put("diffusers/vae", "vae");
  write_vae_config();
  const ModelDirectory directory = open();
  EXPECT_EQ(directory.config().dit.depth, 2);
  EXPECT_EQ(directory.config().vae.encoder_channels, (std::vector<std::int64_t>{4, 8, 12, 16}));
  EXPECT_EQ(file_of(Component::kDecoder), file_of(Component::kEncoder));
  EXPECT_TRUE(directory.open(Component::kDit)->contains("blocks.0.attn.qkv_x.weight"));
  EXPECT_TRUE(directory.open(Component::kDecoder)->contains("blocks.0.0.weight"));
  EXPECT_TRUE(directory.open(Component::kEncoder)->contains("layers.0.weight"));
}

TEST_F(ModelFolder, OneFileTextEncoderWithAShardedTransformer) {
  put("t5_one_file_f8_e4m3.safetensors", "t5xxl_fp8_e4m3fn.safetensors");
  for (const auto& entry : fs::directory_iterator(kFormats / "dit_sharded")) {
    put("dit_sharded/" + entry.path().filename().string(), entry.path().filename().string());
  }
  const ModelDirectory directory = open();
  EXPECT_EQ(file_of(Component::kTextEncoder), "t5xxl_fp8_e4m3fn.safetensors");
  EXPECT_EQ(directory.stored(Component::kDit)->files().size(), 3U);
  EXPECT_EQ(directory.config().text_encoder.hidden_size, 12);
}

TEST_F(ModelFolder, ShardsWithoutTheirIndex) {
  for (const char* number : {"1", "2", "3"}) {
    const std::string name = std::string("model-0000") + number + "-of-00003.safetensors";
    put("dit_sharded/" + name, name);
  }
  EXPECT_EQ(open().stored(Component::kDit)->files().size(), 3U);
  EXPECT_EQ(open().config().dit.depth, 2);
}

TEST_F(ModelFolder, TheUsualNameWinsOverOthers) {
  put("dit_f32.safetensors", "dit.safetensors");
  put("dit_f8_e4m3.safetensors", "dit_fp8.safetensors");
  put("dit_bf16.safetensors", "dit.bf16.safetensors");
  EXPECT_EQ(file_of(Component::kDit), "dit.safetensors");
  fs::remove(folder_ / "dit.safetensors");
  EXPECT_EQ(file_of(Component::kDit), "dit_fp8.safetensors");
}

TEST_F(ModelFolder, TwoEquallyGoodFilesAreRefused) {
  put("dit_f32.safetensors", "one.safetensors");
  put("dit_f32.safetensors", "two.safetensors");
  const std::string message = error_of(Component::kDit);
  expect_contains(message, "two files of the transformer");
  expect_contains(message, "one.safetensors");
  expect_contains(message, "two.safetensors");
}

TEST_F(ModelFolder, SaysWhatIsMissing) {
  put("dit_f32.safetensors", "dit.safetensors");
  const ModelDirectory directory = open();
  expect_contains(message_of<Error>([&] { directory.stored(Component::kTextEncoder); }),
                  "no text encoder found");
  expect_contains(
      message_of<Error>([&] { directory.stored(Component::kDecoder); }),
      "looked for decoder.safetensors, or diffusers' folder vae in '" + folder_.path().string());
  expect_contains(message_of<Error>([&] { directory.tokenizer(); }), "tokenizer/spiece.model");
  const InspectReport report = inspect_model(folder_.path());
  EXPECT_EQ(report.not_found, (std::vector<std::string>{"text encoder", "video decoder",
                                                        "video encoder", "tokenizer"}));
}

TEST_F(ModelFolder, NoFolderAtAll) {
  const auto error_of = [](const fs::path& path) {
    return message_of<Error>([&] { ModelDirectory{path}; });
  };
  expect_contains(error_of(folder_ / "nowhere"), "nowhere' does not exist");
  expect_contains(error_of(folder_.write("file", "")), "file' is not a folder");
}

TEST_F(ModelFolder, SizesThatNoTensorShowsNeedAConfig) {
  put("decoder.safetensors", "decoder.safetensors");
  expect_contains(error_of(Component::kDecoder),
                  "has no config.json, and its tensors do not show its sizes: vae.");
  const InspectReport report = inspect_model(folder_ / "decoder.safetensors");
  ASSERT_EQ(report.components.size(), 1U);
  EXPECT_GT(report.components[0].num_parameters, 1000);
  ASSERT_EQ(report.components[0].wrong.size(), 1U);
  expect_contains(report.components[0].wrong[0], "cannot be determined without a config.json");
}

TEST_F(ModelFolder, DamagedFilesAreNamed) {
  put("dit_f32.safetensors", "dit.safetensors");
  fs::resize_file(folder_ / "dit.safetensors", 20'000);
  expect_contains(error_of(Component::kDit), "dit.safetensors");
  const InspectReport report = inspect_model(folder_.path());
  EXPECT_EQ(report.problems, std::vector<std::string>{error_of(Component::kDit)});
}

TEST_F(ModelFolder, DamagedFilesHideNoOthersFromInspect) {
  put("dit_f32.safetensors", "dit.safetensors");
  folder_.write("mochi_vae.safetensors", "");
  const InspectReport report = inspect_model(folder_.path());
  ASSERT_EQ(report.components.size(), 1U);
  EXPECT_EQ(report.components[0].name, "transformer");
  ASSERT_EQ(report.problems.size(), 1U);  // of both halves of the VAE
  expect_contains(report.problems[0], "mochi_vae.safetensors' is empty");
  EXPECT_EQ(report.not_found, (std::vector<std::string>{"text encoder", "tokenizer"}));
}

TEST_F(ModelFolder, DamagedFilesAreNamedAlsoNextToAnotherModel) {
  put("dit_f32.safetensors", "dit.safetensors");
  put("dit_f32.safetensors", "dit.bf16.safetensors");
  EXPECT_EQ(file_of(Component::kDit), "dit.safetensors");
  fs::resize_file(folder_ / "dit.safetensors", 20'000);
  expect_contains(error_of(Component::kDit), "/dit.safetensors: ");
}

TEST_F(ModelFolder, HiddenFilesArePassedOver) {
  put("dit_f32.safetensors", "dit.safetensors");
  folder_.write("._dit.safetensors", "Mac OS X");
  folder_.write("._model.safetensors.index.json", "Mac OS X");
  EXPECT_EQ(file_of(Component::kDit), "dit.safetensors");
  EXPECT_EQ(open().problem(Component::kDecoder), "");
}

TEST_F(ModelFolder, DanglingLinksAreNamed) {
  fs::create_symlink("../blobs/0123", folder_ / "dit.safetensors");
  const std::string wanted = "'" + (folder_ / "dit.safetensors").string() +
                             "' is a link to '../blobs/0123', which does not exist";
  EXPECT_EQ(error_of(Component::kDit), wanted);
  EXPECT_EQ(inspect_model(folder_.path()).problems, std::vector<std::string>{wanted});
  expect_contains(error_of(Component::kTextEncoder), "no text encoder found");
}

TEST_F(ModelFolder, UnfinishedDownloadsAreNamed) {
  folder_.write("dit.safetensors.part", "half");
  expect_contains(error_of(Component::kDit), "dit.safetensors.part' is a download that did not");
  fs::create_directories(folder_ / ".cache/huggingface/download");
  folder_.write(".cache/huggingface/download/ab.incomplete", "half");
  expect_contains(error_of(Component::kDecoder), "a download did not finish: '");
  put("dit_f32.safetensors", "mine.safetensors");
  EXPECT_EQ(file_of(Component::kDit), "mine.safetensors");
}

// A model folder with a transformer in a format that is not read.
class RefusedFormat : public ModelFolder {
 protected:
  RefusedFormat() { put_refused("dit_f32.safetensors", "dit.safetensors"); }

  void put_refused(const std::string& golden, const std::string& name) const {
    const auto whole = Checkpoint::open(kFormats / golden);
    const std::byte number{};
    std::vector<NamedTensor> tensors{{"layer.weight.absmax", DType::kU8, {1}, {&number, 1}}};
    for (const std::string& tensor : whole->names()) {
      const StoredRows rows = whole->stored_rows(tensor).front();
      tensors.push_back({tensor, std::get<DType>(rows.type), rows.shape, rows.bytes});
    }
    write_safetensors(folder_ / name, tensors);
  }
  static constexpr const char* kReason =
      "tensor 'layer.weight.absmax' in '{}': its weights are quantised in bitsandbytes, which is "
      "not read";
};

TEST_F(RefusedFormat, IsNamedWhenItIsNeeded) {
  put("t5_one_file_f16.safetensors", "t5xxl.safetensors");
  EXPECT_EQ(open().config().text_encoder.hidden_size, 12);
  const std::string wanted =
      fmt::format(fmt::runtime(kReason), (folder_ / "dit.safetensors").string());
  EXPECT_EQ(error_of(Component::kDit), wanted);
  EXPECT_EQ(message_of<Error>([&] { open().require(std::array{Component::kDit}, false); }), wanted);
  open().require(std::array{Component::kTextEncoder}, false);
  const InspectReport report = inspect_model(folder_.path());
  EXPECT_EQ(report.problems, std::vector<std::string>{wanted});
  ASSERT_EQ(report.components.size(), 1U);
  EXPECT_EQ(report.components[0].name, "text encoder");
  EXPECT_EQ(inspect_model(folder_ / "dit.safetensors").problems, report.problems);
}

TEST_F(RefusedFormat, GivesWayToACompleteFile) {
  put("dit_f8_e4m3.safetensors", "other.v2.safetensors");
  EXPECT_EQ(file_of(Component::kDit), "other.v2.safetensors");
  ASSERT_EQ(open().notes().size(), 1U);
  expect_contains(open().notes()[0],
                  "other.v2.safetensors' is used, because another one is not "
                  "read: tensor 'layer.weight.absmax'");
}

TEST_F(RefusedFormat, DoesNotGiveWayToAnIncompleteFile) {
  const std::vector<TinyTensor> part{{"x_embedder.proj.weight", {1, 1}, {0.0F}},
                                     {"pos_frequencies", {1, 1}, {0.0F}}};
  write_tensors(folder_ / "other.safetensors", part);
  expect_contains(error_of(Component::kDit), "bitsandbytes");
}

TEST_F(RefusedFormat, OfAPathIsRefused) {
  ModelPaths paths;
  paths.dit = folder_ / "dit.safetensors";
  expect_contains(message_of<InvalidRequest>([&] { ModelDirectory("", paths); }),
                  "dit: tensor 'layer.weight.absmax'");
}

TEST_F(ModelFolder, TypesThatAreNotReadAreAProblemOfTheirNetwork) {
  put("t5_one_file_f16.safetensors", "t5xxl.safetensors");
  constexpr std::uint32_t kIq4Xs = 23;
  folder_.write("dit.gguf",
                make_gguf({.tensors = {gguf_tensor("x_embedder.proj.weight", {256, 1}, kIq4Xs, 0),
                                       gguf_tensor("pos_frequencies", {1}, 0, 160)},
                           .num_data_bytes = 164}));
  EXPECT_EQ(open().config().text_encoder.hidden_size, 12);
  expect_contains(error_of(Component::kDit), "IQ4_XS");
}

TEST_F(ModelFolder, BothLayoutsOfACompleteDownload) {
  put("dit_f32.safetensors", "dit.safetensors");
  put("diffusers/transformer", "transformer");
  EXPECT_EQ(file_of(Component::kDit), "dit.safetensors");
  ASSERT_EQ(open().notes().size(), 1U);
  expect_contains(open().notes()[0], "there are 2 files of the transformer: ");
  expect_contains(open().notes()[0], "/dit.safetensors' is used");
  EXPECT_EQ(inspect_model(folder_.path()).notes, open().notes());
}

TEST_F(ModelFolder, TheCompleteCopyIsUsed) {
  put("diffusers/transformer", "transformer");
  const std::vector<TinyTensor> part{{"x_embedder.proj.weight", {1, 1}, {0.0F}}};
  write_tensors(folder_ / "dit.safetensors", part);
  EXPECT_EQ(file_of(Component::kDit).parent_path(), "transformer");
  // A file that cannot be read does no harm if there is an equally good copy.
  folder_.write("dit.safetensors", "version https://git-lfs.github.com/spec/v1\n");
  EXPECT_EQ(file_of(Component::kDit).parent_path(), "transformer");
}

TEST_F(ModelFolder, AnIndexWithoutShards) {
  fs::create_directories(folder_ / "transformer");
  folder_.write("transformer/diffusion_pytorch_model.safetensors.index.json",
                R"({"weight_map": {"patch_embed.proj.weight": "m-00001-of-00002.safetensors",
                                   "proj_out.weight": "m-00002-of-00002.safetensors"}})");
  expect_contains(error_of(Component::kDit),
                  "diffusion_pytorch_model.safetensors.index.json: 2 of its 2 shards do not exist: "
                  "'m-00001-of-00002.safetensors', 'm-00002-of-00002.safetensors'");
  put("dit_f32.safetensors", "mine.safetensors");
  EXPECT_EQ(file_of(Component::kDit), "mine.safetensors");
}

TEST_F(ModelFolder, ShardsThatAreMissingWithoutAnIndex) {
  for (const char* number : {"1", "3"}) {
    const std::string name = std::string("model-0000") + number + "-of-00003.safetensors";
    put("dit_sharded/" + name, name);
  }
  expect_contains(error_of(Component::kDit), "is one of 3 shards, and there are 2 of them");
}

TEST_F(ModelFolder, SplitGgufFiles) {
  for (const char* number : {"1", "2", "3"}) {
    const std::string name = std::string("dit_split-0000") + number + "-of-00003.gguf";
    put("../gguf/" + name, name);
  }
  EXPECT_EQ(open().stored(Component::kDit)->files().size(), 3U);
  EXPECT_EQ(open().config().dit.hidden_size_x, 96);
  fs::remove(folder_ / "dit_split-00001-of-00003.gguf");
  expect_contains(error_of(Component::kDit), "is one of 3 shards, and there are 2 of them");
}

TEST_F(ModelFolder, AllThatIsMissingIsNamedAtOnce) {
  put("dit_f32.safetensors", "dit.safetensors");
  const ModelDirectory directory = open();
  directory.validate();  // nothing that is missing is compared
  const std::string message = message_of<Error>([&] {
    directory.require(std::array{Component::kTextEncoder, Component::kDit, Component::kDecoder},
                      true);
  });
  EXPECT_EQ(message, "model folder '" + folder_.path().string() +
                         "' lacks the text encoder (text_encoder/model.safetensors (with its "
                         "index, if it is sharded), or t5xxl_*.safetensors), and the video decoder "
                         "(decoder.safetensors, or diffusers' folder vae), and the tokenizer "
                         "(tokenizer/spiece.model or tokenizer.json)");
}

TEST_F(ModelFolder, ConfigsOfOtherLibrariesArePassedOver) {
  put("dit_f32.safetensors", "dit.safetensors");
  for (const char* config :
       {R"({"model_type": "t5", "d_model": 128})", R"({"_class_name": "MochiTransformer3DModel"})",
        R"({"model_type": 5})", "{}"}) {
    folder_.write("config.json", config);
    EXPECT_FALSE(open().has_config_file()) << config;
    EXPECT_EQ(open().config().dit.depth, 2) << config;
  }
  folder_.write("config.json", R"({"dit": {"depth": 2}})");
  expect_contains(open_error(), "model_type: key is missing");
  folder_.write("config.json", "version https://git-lfs.github.com/spec/v1\n");
  expect_contains(open_error(), "is a Git LFS pointer, not a JSON file");
}

TEST_F(ModelFolder, WrongConfigsAreNamed) {
  folder_.write("config.json", R"({"model_type": "mochi", "trained_on": {"width": [9, 8]}})");
  expect_contains(open_error(), "trained_on.width: wanted the least and the largest value");
  folder_.write("config.json", R"({"model_type": "mochi", "dit": {"dephth": 8}})");
  expect_contains(open_error(), "did you mean 'depth'?");
  folder_.write("config.json", R"({"model_type": "mochi", "generation": {"fps": 0}})");
  expect_contains(open_error(), "generation.fps: wanted 1 to");
  for (const auto& [value, message] :
       {std::pair{R"("threshold_noise": 2)", "generation.threshold_noise: wanted 0 to below 1"},
        {R"("width": 17)", "generation.width: wanted a multiple of 16, found 17"},
        {R"("num_frames": 8)", "generation.num_frames: wanted 6·k + 1, found 8"},
        {R"("fps": 1000000)", "generation.fps: wanted 1 to 1000"}}) {
    folder_.write("config.json", std::string(R"({"model_type": "mochi", "generation": {)") + value +
                                     R"(}, "text_encoder": {}})");
    const EngineOptions options{.model_dir = folder_.path()};
    const std::string error = message_of<Error>([&] { ModelInfo model(options); });
    expect_contains(error, message);
    expect_contains(error, "config.json");
  }
  folder_.write("config.json", R"({"model_type": "mochi", "dit": {"text_width": 8}})");
  expect_contains(open_error(), "config.json: the transformer wants text features of width 8");
}

TEST_F(ModelFolder, ScaledWeightsAreReadWithTheirScales) {
  write_tiny_model(folder_.path(), golden_tokenizer());
  auto tensors = random_tensors(DitWeights(open().config().dit), 1);
  const std::vector<float> wanted = tensors[0].values;
  for (float& value : tensors[0].values) value *= 4.0F;
  ASSERT_TRUE(tensors[0].name.ends_with(".weight"));
  const std::string name = tensors[0].name;
  tensors.push_back({name.substr(0, name.rfind('.')) + ".scale_weight", {}, {0.25F}});
  write_tensors(folder_ / "dit.safetensors", tensors);
  std::vector<float> found(wanted.size());
  open().open(Component::kDit)->read_f32(name, found);
  EXPECT_EQ(found, wanted);
  const InspectReport report = inspect_model(folder_ / "dit.safetensors");
  EXPECT_TRUE(report.components[0].is_complete());
  EXPECT_TRUE(report.components[0].unexpected.empty());
}

// Writes the networks of a tiny model into one file, below ComfyUI's prefixes.
void write_all_in_one(const fs::path& path, const ModelConfig& config) {
  std::vector<TinyTensor> all;
  const auto add = [&all](const std::string& prefix, std::vector<TinyTensor> tensors) {
    for (TinyTensor& tensor : tensors) {
      tensor.name = prefix + tensor.name;
      all.push_back(std::move(tensor));
    }
  };
  add("model.diffusion_model.", random_tensors(DitWeights(config.dit), 1000));
  add("text_encoders.t5xxl.transformer.",
      split_gates(random_tensors(T5Weights(config.text_encoder), 2000)));
  add("vae.decoder.", random_tensors(VaeDecoderWeights(config.vae), 3000));
  add("vae.encoder.", random_tensors(VaeEncoderWeights(config.vae), 4000));
  write_tensors(path, all);
}

TEST_F(ModelFolder, OneFileForAllNetworks) {
  const TempFolder original;
  write_tiny_model(original.path(), golden_tokenizer());
  const ModelDirectory usual(original.path());
  fs::copy_file(original / "config.json", folder_ / "config.json");
  write_all_in_one(folder_ / "mochi.safetensors", usual.config());
  const ModelDirectory directory = open();
  EXPECT_EQ(directory.files().size(), 2U);
  for (const Component component : kAllComponents) {
    ASSERT_TRUE(directory.has(component)) << component_name(component);
    const auto wanted = usual.open(component);
    const auto found = directory.open(component);
    for (const auto& [name, shape] : parameters_of(usual.config(), component)) {
      std::vector<float> a(static_cast<std::size_t>(shape.num_elements()));
      std::vector<float> b(a.size());
      wanted->read_f32(name, a);
      found->read_f32(name, b);
      ASSERT_EQ(a, b) << name;
    }
  }
  const InspectReport report = inspect_model(folder_ / "mochi.safetensors");
  ASSERT_EQ(report.components.size(), 4U);
  for (const ComponentReport& component : report.components) {
    EXPECT_TRUE(component.is_complete()) << component.name;
    EXPECT_TRUE(component.unexpected.empty()) << component.name;
  }
  EXPECT_EQ(report.tensors.size(), inspect_model(folder_.path()).tensors.size());
}

class ComfyFolder : public ModelFolder {
 protected:
  void put_all(const std::string& base) const {
    put("dit_bf16.safetensors", base + "diffusion_models/mochi_preview_bf16.safetensors");
    put("t5_one_file_f16.safetensors", base + "text_encoders/t5xxl_fp16.safetensors");
    put("diffusers/vae/diffusion_pytorch_model.safetensors", base + "vae/mochi_vae.safetensors");
    write_vae_config();
  }
  void expect_all(const std::string& base) const {
    EXPECT_EQ(file_of(Component::kDit), base + "diffusion_models/mochi_preview_bf16.safetensors");
    EXPECT_EQ(file_of(Component::kTextEncoder), base + "text_encoders/t5xxl_fp16.safetensors");
    EXPECT_EQ(file_of(Component::kDecoder), base + "vae/mochi_vae.safetensors");
    EXPECT_EQ(file_of(Component::kEncoder), base + "vae/mochi_vae.safetensors");
  }
};

TEST_F(ComfyFolder, AsItIs) {
  put_all("");
  expect_all("");
  EXPECT_TRUE(open().notes().empty());
}

TEST_F(ComfyFolder, BelowModels) {
  put_all("models/");
  expect_all("models/");
}

TEST_F(ComfyFolder, OldNamesAndInnerFolders) {
  put("dit_bf16.safetensors", "unet/Mochi/1.0/mochi.v1.safetensors");
  put("t5_one_file_f16.safetensors", "clip/t5.safetensors");
  EXPECT_EQ(file_of(Component::kDit), "unet/Mochi/1.0/mochi.v1.safetensors");
  EXPECT_EQ(file_of(Component::kTextEncoder), "clip/t5.safetensors");
}

TEST_F(ComfyFolder, TheMorePreciseCopyIsUsed) {
  put_all("");
  put("dit_f8_e4m3.safetensors", "diffusion_models/dit.safetensors");
  put("t5_one_file_f8_e4m3.safetensors", "text_encoders/model.safetensors");
  expect_all("");
  ASSERT_EQ(open().notes().size(), 2U);
  expect_contains(open().notes()[0], "there are 2 files of the text encoder: ");
  expect_contains(open().notes()[1], "mochi_preview_bf16.safetensors' is used");
}

TEST_F(ComfyFolder, LinksToAFileAreNoCopies) {
  put_all("");
  fs::create_directory_symlink("diffusion_models", folder_ / "unet");
  const ModelDirectory directory = open();
  EXPECT_TRUE(directory.has(Component::kDit));
  EXPECT_TRUE(directory.notes().empty());
}

TEST_F(ComfyFolder, OtherModelsArePassedOver) {
  put_all("");
  const auto add = [this](const std::string& name, const std::vector<std::string>& tensors) {
    std::vector<TinyTensor> stored;
    for (const std::string& tensor : tensors) stored.push_back({tensor, {1}, {0.0F}});
    write_tensors(folder_ / name, stored);
  };
  add("vae/ae.safetensors", {"decoder.conv_in.weight", "encoder.conv_in.weight"});
  add("diffusion_models/sd3.safetensors", {"x_embedder.proj.weight"});
  add("checkpoints/sd3.safetensors", {"model.diffusion_model.x_embedder.proj.weight"});
  add("text_encoders/umt5.safetensors",
      {"encoder.block.0.layer.0.SelfAttention.q.weight",
       "encoder.block.1.layer.0.SelfAttention.relative_attention_bias.weight"});
  folder_.write("diffusion_models/broken.safetensors", "no weights");
  folder_.write("diffusion_models/.hidden.safetensors", "no weights");
  fs::create_directory(folder_ / "vae/folder.safetensors");
  expect_all("");
  EXPECT_TRUE(open().notes().empty());
  fs::remove(folder_ / "diffusion_models/mochi_preview_bf16.safetensors");
  expect_contains(error_of(Component::kDit), "no transformer found: looked for ");
  expect_contains(error_of(Component::kDit),
                  "; a file that may be the transformer cannot be used: '");
  expect_contains(error_of(Component::kDit), "/broken.safetensors");
  fs::remove(folder_ / "vae/mochi_vae.safetensors");
  expect_contains(error_of(Component::kDecoder), "/vae/folder.safetensors' is a folder, not a");
}

TEST_F(ComfyFolder, TwoEquallyGoodFilesAreRefused) {
  put_all("");
  put("dit_bf16.safetensors", "diffusion_models/other.safetensors");
  expect_contains(error_of(Component::kDit), "two files of the transformer");
}

TEST_F(ComfyFolder, FilesOfOneNetworkPrecedeThoseOfSeveral) {
  const TempFolder original;
  write_tiny_model(original.path(), golden_tokenizer());
  fs::copy_file(original / "config.json", folder_ / "config.json");
  write_all_in_one(folder_ / "checkpoints/mochi.safetensors",
                   ModelDirectory(original.path()).config());
  EXPECT_EQ(file_of(Component::kDit), "checkpoints/mochi.safetensors");
  fs::create_directory(folder_ / "vae");
  fs::copy_file(original / "decoder.safetensors", folder_ / "vae/mochi_decoder.safetensors");
  EXPECT_EQ(file_of(Component::kDecoder), "vae/mochi_decoder.safetensors");
  EXPECT_EQ(file_of(Component::kEncoder), "checkpoints/mochi.safetensors");
}

TEST_F(ModelFolder, InspectCountsAndCompares) {
  write_tiny_model(folder_.path(), golden_tokenizer());
  const InspectReport report = inspect_model(folder_.path());
  ASSERT_EQ(report.components.size(), 4U);
  EXPECT_TRUE(report.not_found.empty());
  for (const ComponentReport& component : report.components) {
    EXPECT_TRUE(component.is_complete()) << component.name;
    EXPECT_TRUE(component.unexpected.empty()) << component.name;
    EXPECT_EQ(component.parameters_by_dtype.at("F32"), component.num_parameters);
    EXPECT_EQ(component.stored_bytes, 4 * static_cast<std::uint64_t>(component.num_parameters));
  }
}

TEST_F(ModelFolder, InspectFindsMissingUnexpectedAndWrongTensors) {
  write_tiny_model(folder_.path(), golden_tokenizer());
  auto tensors = random_tensors(DitWeights(open().config().dit), 1);
  std::erase_if(tensors, [](const TinyTensor& tensor) { return tensor.name == "t5_yproj.bias"; });
  for (TinyTensor& tensor : tensors) {
    if (tensor.name == "final_layer.linear.bias") tensor.name = "stranger";
    if (tensor.name == "x_embedder.proj.bias") tensor.shape = {tensor.shape[0] / 2, 2};
  }
  write_tensors(folder_ / "dit.safetensors", tensors);
  for (const fs::path& path : {folder_.path(), folder_ / "dit.safetensors"}) {
    const InspectReport report = inspect_model(path);
    const auto dit = std::ranges::find(report.components, "transformer", &ComponentReport::name);
    ASSERT_NE(dit, report.components.end());
    EXPECT_FALSE(dit->is_complete());
    EXPECT_EQ(dit->missing, (std::vector<std::string>{"t5_yproj.bias", "final_layer.linear.bias"}));
    EXPECT_EQ(dit->unexpected, (std::vector<std::string>{"stranger"}));
    ASSERT_EQ(dit->wrong.size(), 1U);
    expect_contains(dit->wrong.front(), "tensor 'x_embedder.proj.bias'");
  }
}

TEST_F(ModelFolder, InspectSeesBothHalvesOfADiffusersVae) {
  put("diffusers/vae", "vae");
  write_vae_config();
  const InspectReport report = inspect_model(folder_ / "vae/diffusion_pytorch_model.safetensors");
  EXPECT_TRUE(report.has_config_file);
  ASSERT_EQ(report.components.size(), 2U);
  EXPECT_EQ(report.components[0].name, "video decoder");
  EXPECT_EQ(report.components[1].name, "video encoder");
  for (const ComponentReport& half : report.components) {
    EXPECT_TRUE(half.is_complete());
    EXPECT_EQ(half.unexpected, std::vector<std::string>{});
    EXPECT_GT(half.num_parameters, 1000);
  }
}

TEST(Inspect, SaysThatAFileIsALora) {
  const InspectReport report = inspect_model(kFormats.parent_path() / "lora/genmo.safetensors");
  EXPECT_TRUE(report.components.empty());
  EXPECT_EQ(report.tensors.size(), 22U);
  ASSERT_TRUE(report.lora);
  EXPECT_EQ(report.lora->num_layers, 11);
  EXPECT_EQ(report.lora->num_by_kind, (std::map<std::string, std::int64_t>{{"LoRA", 11}}));
  EXPECT_EQ(report.lora->spellings, std::vector<std::string>{"genmo"});
  EXPECT_EQ(report.lora->ranks, (std::vector<std::int64_t>{2, 4}));
  EXPECT_EQ(report.lora->alphas, (std::vector<double>{3.0, 6.0}));
  EXPECT_FALSE(report.lora->has_default_alphas);
  EXPECT_EQ(report.lora->stored_bytes, 4 * static_cast<std::uint64_t>(report.lora->num_parameters));
}

TEST(Inspect, NamesTheKindsOfALora) {
  const InspectReport lokr =
      inspect_model(kFormats.parent_path() / "lora_kinds/lycoris_lokr.safetensors");
  ASSERT_TRUE(lokr.lora);
  EXPECT_EQ(lokr.lora->num_by_kind,
            (std::map<std::string, std::int64_t>{{"LoKr", 2}, {"LoKr with DoRA's norms", 1}}));
  EXPECT_EQ(lokr.lora->spellings, std::vector<std::string>{"kohya"});
  EXPECT_EQ(lokr.lora->ranks, (std::vector<std::int64_t>{1, 2}));
  const InspectReport difference =
      inspect_model(kFormats.parent_path() / "lora_kinds/difference.safetensors");
  ASSERT_TRUE(difference.lora);
  EXPECT_EQ(difference.lora->num_layers, 4);
  EXPECT_TRUE(difference.lora->ranks.empty());
  EXPECT_FALSE(difference.lora->has_default_alphas);
}

TEST(Inspect, RecognisesALoraThatPeftSaved) {
  const fs::path folder = kFormats.parent_path() / "lora_kinds/peft_dora";
  const InspectReport report = inspect_model(folder);
  ASSERT_TRUE(report.lora);
  EXPECT_EQ(report.lora->file, (folder / "adapter_model.safetensors").string());
  EXPECT_EQ(report.lora->num_by_kind.begin()->first, "DoRA");
  EXPECT_TRUE(report.not_found.empty());
}

TEST(Inspect, ReplacesPartsOfAModel) {
  const TempFolder folder;
  write_tiny_model(folder.path(), golden_tokenizer());
  ModelPaths paths;
  paths.dit = kFormats / "dit_bf16.safetensors";
  paths.tokenizer = golden_tokenizer();
  const InspectReport alone = inspect_model("", paths);
  ASSERT_EQ(alone.components.size(), 1U);
  EXPECT_EQ(alone.components[0].files, std::vector<std::string>{paths.dit.string()});
  EXPECT_EQ(alone.tokenizer, paths.tokenizer.string());
  EXPECT_EQ(alone.not_found,
            (std::vector<std::string>{"text encoder", "video decoder", "video encoder"}));
  paths.dit = folder / "other.safetensors";
  fs::copy_file(folder / "dit.safetensors", paths.dit);
  const InspectReport replaced = inspect_model(folder.path(), paths);
  EXPECT_EQ(replaced.components.size(), 4U);
  EXPECT_EQ(replaced.components[1].files, std::vector<std::string>{paths.dit.string()});
}

TEST(Inspect, ListsTheTensorsOfOtherFiles) {
  const InspectReport report = inspect_model(kFormats / "dtypes.safetensors");
  EXPECT_TRUE(report.components.empty());
  EXPECT_GT(report.tensors.size(), 4U);
  EXPECT_FALSE(report.lora);
}

}  // namespace
}  // namespace mochi
