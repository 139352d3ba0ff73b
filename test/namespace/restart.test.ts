import t from 'tap'
import { CHAOS_TIMEOUT } from '../lab/chaos.ts'
import { cannotRun } from '../lab/requirements.ts'
import { losesNothing } from './control-failures.ts'

t.setTimeout(CHAOS_TIMEOUT)

t.test('existing traffic does not notice failures of agents, Serf and control links', { skip: cannotRun() }, t =>
  losesNothing(t)
)
