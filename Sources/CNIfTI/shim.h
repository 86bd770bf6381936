#pragma once
#include <nifti1_io.h>
