// Gives libFuzzer's inputs to a fuzzer. A finding ends the program; libFuzzer
// then writes the input into a file.
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <string_view>

#include "tests/fuzz/fuzz.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data,
                                      std::size_t size) {
  try {
    tcpip_fuzz::fuzz_one({reinterpret_cast<const char*>(data), size});
  } catch (const tcpip_fuzz::Finding& finding) {
    std::fprintf(stderr, "FINDING: %s\n", finding.what.c_str());
    std::abort();
  }
  return 0;
}
