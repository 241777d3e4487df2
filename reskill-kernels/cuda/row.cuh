// Runs of one or eight elements, so that a loop over a row is written once and reads 16 bytes at a time where rows
// allow.
#pragma once
#include "prelude.cuh"

template <class T>
__device__ __forceinline__ void load(float (&v)[1], const T* p) { v[0] = to_f32(*p); }
template <class T>
__device__ __forceinline__ void load(float (&v)[8], const T* p) { load8(v, p); }
template <class T>
__device__ __forceinline__ void store(T* p, const float (&v)[1]) { *p = from_f32<T>(v[0]); }
template <class T>
__device__ __forceinline__ void store(T* p, const float (&v)[8]) { store8(p, v); }
