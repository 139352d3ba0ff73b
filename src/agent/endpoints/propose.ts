// How the agent's parts change the cluster's state.

import type { Command, ResultOf } from '#model/command.ts'

/** Resolves once the change is committed and visible on this host. @throws see ReplicatedLog.propose, ERR_TIMEOUT */
export type Propose = <C extends Command>(command: C) => Promise<ResultOf<C['kind']>>
