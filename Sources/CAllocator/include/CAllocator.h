// What happens where the system has no more memory to give.
#pragma once
#include <stddef.h>

// From now on a lack of memory, in this program or in any library of it, is told to `lack` with the bytes that were asked
// for; it must not return. Some memory is kept for it to work with. Without this call, allocations fail as ever.
void callocator_on_lack(void (*lack)(size_t bytes));
