// The cluster's pool of VNIs. VNI 0 is never allocated: RFC 7348 allows it, but many devices do not.

import { VNI_MAX } from '#model/ids.ts'
import { Pool } from './pool.ts'

/** The first automatic VNI; lower ones are allocated only on request. */
export const FIRST_AUTOMATIC_VNI = 4_096

export function vniPool(): Pool {
  return new Pool({ base: 0, size: VNI_MAX + 1, reserved: [0], firstAutomatic: FIRST_AUTOMATIC_VNI })
}
