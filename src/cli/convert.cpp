#include "cli/convert.h"

#include <CLI/CLI.hpp>

#include "cli/command_observer.h"
#include "cli/generate_options.h"
#include "cli/progress_display.h"
#include "cli/terminal.h"
#include "mochi/convert.h"

namespace mochi::cli {

void add_convert_flags(CLI::App& command, ConvertCommandOptions& options) {
  command
      .add_option("input", options.input,
                  "a file of weights, an index of shards, or a model folder")
      ->type_name("IN")
      ->required();
  command.add_option("output", options.output, "the new file: .safetensors or .gguf")
      ->type_name("OUT")
      ->required();
  command
      .add_option("--to", options.format,
                  "precision of the matrices; fp8 needs .safetensors, and those that begin with q "
                  "need .gguf")
      ->type_name("bf16|fp16|fp8|q8_0|q6_k|q5_k|q4_k|q4_0")
      ->required();
  command
      .add_option("--network", options.network,
                  "which network of a folder (default: transformer) or of a file with several")
      ->type_name("transformer|text-encoder|decoder|encoder");
  command
      .add_option("--lora-path", options.loras,
                  "a LoRA to add to the weights; may be given several times")
      ->allow_extra_args(false)
      ->type_name("FILE[:scale]");
  command.add_flag("--quiet", options.is_quiet, "print errors only");
}

void run_convert(const ConvertCommandOptions& options) {
  ConvertOptions convert;
  convert.input = options.input;
  convert.output = options.output;
  // flags::read_arguments() accepts no other names.
  convert.format = parse_weight_format(options.format).value_or(WeightFormat::kBf16);
  if (options.network) convert.network = parse_network_kind(*options.network);
  for (const std::string& lora : options.loras) convert.loras.push_back(parse_lora(lora));
  ProgressDisplay display(display_style(options.is_quiet));
  CommandObserver observer(display);
  const ConvertReport report = convert_weights(convert, observer);
  if (options.is_quiet) return;
  for (const std::string& warning : report.warnings) tell("warning: {}", warning);
  constexpr double kMebibyte = 1024.0 * 1024.0;
  tell_summary("{}: the {} as {}, {} of {} tensors converted; {:.1f} MiB, before {:.1f} MiB",
               options.output.string(), report.network, options.format, report.num_converted,
               report.num_tensors, static_cast<double>(report.output_bytes) / kMebibyte,
               static_cast<double>(report.input_bytes) / kMebibyte);
}

}  // namespace mochi::cli
