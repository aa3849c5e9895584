// Writes a model folder with tiny random networks: make_tiny_model FOLDER SPIECE_MODEL.
#include <cstdio>
#include <exception>

#include "pipeline/tiny_model.h"

int main(int argc, char** argv) {
  if (argc != 3) {
    std::fputs("usage: make_tiny_model FOLDER SPIECE_MODEL\n", stderr);
    return 2;
  }
  try {
    mochi::write_tiny_model(argv[1], argv[2]);
  } catch (const std::exception& error) {
    std::fprintf(stderr, "make_tiny_model: %s\n", error.what());
    return 1;
  }
  return 0;
}
