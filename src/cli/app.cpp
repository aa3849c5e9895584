#include "cli/app.h"

#include <fmt/format.h>

#include <CLI/CLI.hpp>

#include "mochi/mochi.h"

namespace mochi::cli {

namespace {

constexpr const char* kGenerateExamples =
    "  mochi generate --prompt \"a small red ball bounces\" --out ball.mp4\n"
    "  mochi generate --prompt \"a blue cube spins\" --seed random --chipmunk-config "
    "chipmunk-config.yml\n"
    "  mochi generate --sweep-file prompts.jsonl --out-dir videos";

constexpr const char* kServeExamples =
    "  mochi serve\n"
    "  mochi serve --model-dir weights --host 0.0.0.0 --api-keys keys.txt --data-dir /srv/mochi\n"
    "  curl -F prompt=\"a red ball\" http://127.0.0.1:8188/v1/videos";

constexpr const char* kConvertExamples =
    "  mochi convert weights --to q8_0 dit.gguf\n"
    "  mochi convert weights --network text-encoder --to fp8 t5.safetensors\n"
    "  mochi convert dit.safetensors --lora-path style.safetensors --to bf16 styled.safetensors";

constexpr const char* kDownloadExamples =
    "  mochi download mochi-1-preview weights\n"
    "  mochi download mochi-1-preview weights --precision q4_k --dry-run\n"
    "  mochi download OWNER/REPO@REVISION lora --include \"*.safetensors\"\n"
    "  mochi download --list";

void add_completion_command(CLI::App& app, std::string& shell) {
  app.add_subcommand("completion", "print a shell's completion script")
      ->add_option("shell", shell, "which shell")
      ->type_name("bash|zsh")
      ->required();
}

void add_manual_command(CLI::App& app, std::string& form) {
  app.add_subcommand("manual", "print this manual")
      ->add_option("--format", form, "a manual page, or Markdown")
      ->type_name("man|markdown")
      ->capture_default_str();
}

}  // namespace

std::unique_ptr<CLI::App> make_app(Commands& commands) {
  auto app = std::make_unique<CLI::App>("Text to video with Mochi models.", "mochi");
  app->require_subcommand(1);
  app->set_version_flag("--version", fmt::format("mochi {}", version()));
  CLI::App* generate = app->add_subcommand("generate", "make a video from a prompt");
  generate->footer(kGenerateExamples);
  add_generate_flags(*generate, commands.generate);
  CLI::App* serve = app->add_subcommand("serve", "make videos for clients and browsers, over HTTP");
  serve->footer(kServeExamples);
  add_serve_flags(*serve, commands.serve);
  add_decode_flags(*app->add_subcommand("decode", "make a video from latents"), commands.decode);
  add_encode_flags(*app->add_subcommand("encode", "turn a video into latents"), commands.encode);
  CLI::App* convert =
      app->add_subcommand("convert", "write weights in another precision, or with LoRAs added");
  convert->footer(kConvertExamples);
  add_convert_flags(*convert, commands.convert);
  add_inspect_flags(*app->add_subcommand("inspect", "show what a model folder or file contains"),
                    commands.inspect);
  add_compare_flags(*app->add_subcommand("compare", "measure how close two videos or latents are"),
                    commands.compare);
  add_analyze_flags(
      *app->add_subcommand("analyze", "show what sparse attention and step skipping do to a video"),
      commands.analyze);
  add_tune_flags(*app->add_subcommand(
                     "tune", "find the fastest step skipping and sparsity of a wanted quality"),
                 commands.tune);
  add_bench_flags(*app->add_subcommand("bench", "measure the speed of operations and networks"),
                  commands.bench);
  CLI::App* download =
      app->add_subcommand("download", "download weights from the Hugging Face hub");
  download->footer(kDownloadExamples);
  add_download_flags(*download, commands.download);
  add_completion_command(*app, commands.shell);
  add_manual_command(*app, commands.manual_form);
  app->add_subcommand("version", "print the version");
  return app;
}

}  // namespace mochi::cli
