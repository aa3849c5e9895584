// LoRAs by their names, as requests list them.
#pragma once

#include <string>
#include <string_view>

namespace mochi::server {

struct NamedLora {
  std::string name;
  double scale = 1;

  bool operator==(const NamedLora&) const = default;
};

// Reads "style" or "style:0.8". A colon without a finite number after it belongs to the name.
NamedLora parse_lora(std::string_view text);

// Returns what parse_lora() reads as the same LoRA.
std::string format_lora(const NamedLora& lora);

}  // namespace mochi::server
