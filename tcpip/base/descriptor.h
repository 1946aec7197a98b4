// Where every descriptor of this library comes from.
//
// Threads: the function may be called from any thread.
#ifndef TCPIP_BASE_DESCRIPTOR_H_
#define TCPIP_BASE_DESCRIPTOR_H_

#include "tcpip/unique_fd.h"

namespace tcpip::internal {

// Takes the descriptor that a system call has just made, and gives it a number
// above 2. In a program that has closed its standard streams the kernel hands
// out 0, 1 or 2; what the program then writes to stderr would go to the peer.
// Empty, with errno as the call or dup has left it, if `made` is negative or
// there is no other number.
//
//   const UniqueFd fd = adopt_descriptor(::socket(...));
UniqueFd adopt_descriptor(int made) noexcept;

}  // namespace tcpip::internal

#endif  // TCPIP_BASE_DESCRIPTOR_H_
