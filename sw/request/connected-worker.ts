import { arrivalOf } from '../http/arrival.js'
import type { ConnectedWorker } from '../offline/api-part.js'
import type { Platform } from '../platform.js'
import { ownerOf } from '../session/active-record.js'
import { activeOf } from '../session/records.js'
import type { WorkerSession } from '../session/session.js'
import type { Store } from '../session/store.js'
import type { ApiRequest } from './api-request.js'
import type { Cancellation } from './cancellation.js'
import type { Intercept } from './intercept.js'

/** The caller keeps the worker alive; what goes on behind the answer may fail. */
const noEvent = { waitUntil: (work: Promise<unknown>) => void work.catch(() => {}) }

/** Creates the worker as code sees it that sends requests by itself: strategies and queues. */
export function createConnectedWorker({
  config: { root: scope },
  store: { name },
  session,
  intercept,
  apiRequest,
  cancellation: { signalOf },
  platform,
}: {
  config: { root: string }
  store: Pick<Store, 'name'>
  session: Pick<WorkerSession, 'read'>
  intercept: Intercept
  apiRequest: ApiRequest
  cancellation: Pick<Cancellation, 'signalOf'>
  platform: Pick<Platform, 'now' | 'wait' | 'lock'>
}): ConnectedWorker {
  return {
    name,
    scope,
    signalOf,
    platform,

    begin: (request, event = noEvent) => {
      const url = new URL(request.url)
      const what = intercept(request, url)
      if (what?.kind !== 'api') return
      return apiRequest(arrivalOf(request, event, { url, cancelled: signalOf(request) }), what.rule)
    },

    present: async () => {
      const record = await session.read()
      const active = activeOf(record)
      const { lastEnd, lastSignOut } = record ?? {}
      return { user: active && ownerOf(active), lastEnd, lastSignOut }
    },
  }
}
