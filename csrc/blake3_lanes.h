/* The body of a kernel that hashes as many jobs as a vector has 32-bit lanes. A file that includes this defines:

   LANES, VEC (a vector of that many uint32_t), TARGET (attributes), KERNEL (the function's name),
   SPREAD(x) (all lanes x), LOAD(p) (lanes from uint32_t memory), STORE(p, v), ADD, XOR,
   ROT16, ROT12, ROT8, ROT7 (rotations to the right), and
   TRANSPOSED(words, input, at): words[w] has in lane l the w-th word of the block at input[l] + at. */

TARGET static void KERNEL(const struct blake3_jobs *jobs)
{
    uint32_t low[LANES], high[LANES], ends[LANES], out[8][LANES];
    VEC h[8], v[16], m[16];

    for (size_t lane = 0; lane < LANES; ++lane) {
        low[lane] = (uint32_t)jobs->counter[lane];
        high[lane] = (uint32_t)(jobs->counter[lane] >> 32);
        ends[lane] = jobs->last[lane] | jobs->flags | (jobs->blocks == 1 ? jobs->first : 0);
    }
    for (size_t i = 0; i < 8; ++i)
        h[i] = SPREAD(blake3_iv[i]);
    for (size_t block = 0; block < jobs->blocks; ++block) {
        TRANSPOSED(m, jobs->input, block * BLAKE3_BLOCK);
        for (size_t i = 0; i < 8; ++i)
            v[i] = h[i];
        for (size_t i = 0; i < 4; ++i)
            v[8 + i] = SPREAD(blake3_iv[i]);
        v[12] = LOAD(low);
        v[13] = LOAD(high);
        v[14] = SPREAD((uint32_t)BLAKE3_BLOCK);
        v[15] = block + 1 == jobs->blocks ? LOAD(ends) : SPREAD(jobs->flags | (block == 0 ? jobs->first : 0));
        BLAKE3_ROUNDS(v, m);
        for (size_t i = 0; i < 8; ++i)
            h[i] = XOR(v[i], v[i + 8]);
    }
    for (size_t i = 0; i < 8; ++i)
        STORE(out[i], h[i]);
    for (size_t lane = 0; lane < LANES; ++lane)
        for (size_t i = 0; i < 8; ++i)
            aip_store_le32(jobs->cv[lane] + 4 * i, out[i][lane]);
}

#undef LANES
#undef VEC
#undef TARGET
#undef KERNEL
#undef SPREAD
#undef LOAD
#undef STORE
#undef ADD
#undef XOR
#undef ROT16
#undef ROT12
#undef ROT8
#undef ROT7
#undef TRANSPOSED
