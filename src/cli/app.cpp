#include "cli/app.h"

#include <fmt/format.h>

#include <CLI/CLI.hpp>

#include "mochi/mochi.h"

namespace mochi::cli {

std::unique_ptr<CLI::App> make_app(Commands& commands) {
  auto app = std::make_unique<CLI::App>("Text to video with Mochi models.", "mochi");
  app->require_subcommand(1);
  app->get_formatter()->column_width(45);
  app->set_version_flag("--version", fmt::format("mochi {}", version()));
  add_generate_flags(*app->add_subcommand("generate", "make a video from a prompt"),
                     commands.generate);
  add_decode_flags(*app->add_subcommand("decode", "make a video from latents"), commands.decode);
  add_encode_flags(*app->add_subcommand("encode", "turn a video into latents"), commands.encode);
  add_inspect_flags(*app->add_subcommand("inspect", "say what is in a model folder or file"),
                    commands.inspect);
  add_compare_flags(*app->add_subcommand("compare", "say how near two videos or latents are"),
                    commands.compare);
  add_analyze_flags(*app->add_subcommand("analyze", "say what sparse attention does to a video"),
                    commands.analyze);
  add_tune_flags(
      *app->add_subcommand("tune", "find the fastest sparsity configuration of a wanted quality"),
      commands.tune);
  add_bench_flags(*app->add_subcommand("bench", "measure operations and networks"), commands.bench);
  app->add_subcommand("completion", "print a shell's completion script")
      ->add_option("shell", commands.shell, "which shell")
      ->type_name("bash|zsh")
      ->check(CLI::IsMember({"bash", "zsh"}).description(""))
      ->required();
  app->add_subcommand("manual", "print this manual")
      ->add_option("--format", commands.manual_form, "a manual page, or Markdown")
      ->type_name("man|markdown")
      ->check(CLI::IsMember({"man", "markdown"}).description(""))
      ->capture_default_str();
  app->add_subcommand("version", "print the version");
  return app;
}

}  // namespace mochi::cli
