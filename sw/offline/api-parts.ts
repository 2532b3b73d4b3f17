import type { Platform } from '../platform.js'
import { withTimeLimit } from '../time-limit.js'
import type { ApiPart } from './api-part.js'

/** All parts of a worker's APIs, as one. */
export interface ApiParts extends Pick<ApiPart, 'connect' | 'resume'> {
  /** Undefined if no part keeps anything for users. */
  forget?(): Promise<unknown>
}

/** ms that the caches of a user may take to be deleted, before pages get the end regardless. */
const forgetLimit = 3_000

/** Gathers the parts. One that fails keeps no other from its work. */
export function createApiParts({
  config: { apis },
  platform: { wait },
}: {
  config: { apis: readonly { parts?: readonly ApiPart[] }[] }
  platform: Pick<Platform, 'wait'>
}): ApiParts {
  const parts = [...new Set(apis.flatMap(({ parts = [] }) => parts))]
  const forget: ApiParts['forget'] = () =>
    withTimeLimit(wait, forgetLimit, () => Promise.allSettled(parts.map((part) => part.forget())))
  return {
    connect: (worker) => {
      for (const part of parts) part.connect(worker)
    },
    resume: () => Promise.allSettled(parts.map((part) => part.resume())),
    ...(parts.length > 0 && { forget }),
  }
}
