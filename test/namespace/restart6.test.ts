// The same over an underlay of IPv6 alone.

import t from 'tap'
import { CHAOS_TIMEOUT } from '../lab/chaos.ts'
import { cannotRun } from '../lab/requirements.ts'
import { losesNothing } from './control-failures.ts'

t.setTimeout(CHAOS_TIMEOUT)

t.test('over IPv6 existing traffic does not notice failures of the control plane either', { skip: cannotRun() }, t =>
  losesNothing(t, { family: 'ipv6' })
)
