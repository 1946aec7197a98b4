#include "tcpip/base/module_pin.h"

namespace tcpip::internal {
namespace {

struct Pin {
  // Not empty for the compiler, which might else leave the destructor out.
  ~Pin() { asm volatile("" : : : "memory"); }
};

}  // namespace

void keep_module_loaded() noexcept {
  // glibc does not unload a shared object while it owes a living thread the
  // destructor of a thread_local variable of that object. It calls the
  // destructor behind everything else that the thread runs.
  thread_local const Pin pin;
  asm volatile("" : : "r"(&pin));
}

}  // namespace tcpip::internal
