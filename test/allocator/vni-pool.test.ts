import t from 'tap'
import { FIRST_AUTOMATIC_VNI, vniPool } from '#allocator/vni-pool.ts'
import { VNI_MAX } from '#model/ids.ts'

t.test('automatic VNIs start at 4096 and wrap around to it', t => {
  const pool = vniPool()
  t.equal(pool.next(), 4_096)
  pool.restoreCursor(VNI_MAX)
  t.equal(pool.next(), VNI_MAX)
  pool.take(VNI_MAX)
  t.equal(pool.next(), FIRST_AUTOMATIC_VNI)
  t.end()
})

t.test('exactly the VNIs from 1 to 2^24 - 1 can be claimed', t => {
  const pool = vniPool()
  for (const vni of [1, 4_095, 4_096, VNI_MAX]) {
    t.equal(pool.isFree(vni), true)
    pool.claim(vni)
    t.equal(pool.isFree(vni), false)
  }
  for (const vni of [0, -1, VNI_MAX + 1]) {
    t.equal(pool.isFree(vni), false)
    t.throws(() => pool.claim(vni), /cannot be set/)
  }
  t.end()
})
