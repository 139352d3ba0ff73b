// The pool of VNIs: one for the cluster. 0 is never allocated (RFC 7348 leaves it valid, many devices do not).

import { VNI_MAX } from '#model/ids.ts'
import { Pool } from './pool.ts'

/** Automatic VNIs lie here and above; those below go only to networks that ask for them by number. */
export const FIRST_AUTOMATIC_VNI = 4_096

export function vniPool(): Pool {
  return new Pool({ base: 0, size: VNI_MAX + 1, reserved: [0], firstAutomatic: FIRST_AUTOMATIC_VNI })
}
