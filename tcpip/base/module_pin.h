// For programs that load this library inside a plugin and unload it again.
//
// Threads: the function may be called from any thread.
#ifndef TCPIP_BASE_MODULE_PIN_H_
#define TCPIP_BASE_MODULE_PIN_H_

namespace tcpip::internal {

// Keeps the shared object that this code lies in loaded until the calling
// thread has ended, whatever dlclose() is told meanwhile. Does nothing in a
// program that is linked statically.
void keep_module_loaded() noexcept;

}  // namespace tcpip::internal

#endif  // TCPIP_BASE_MODULE_PIN_H_
