#pragma once
#include <nifti1_io.h>
#include <zlib.h>
