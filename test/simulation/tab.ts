/**
 * A tab of the app: it sends requests, calls its worker, opens hidden frames for it, and goes away
 * to the authorization server and back.
 */
import type { FrameEnd, PageCalls, Session, WorkerCalls } from '../../src/shared/protocol.js'
import { arrivalOf } from '../../sw/http/arrival.js'
import type { ApiPart } from '../../sw/offline/api-part.js'
import type { Page } from '../../sw/platform.js'
import type { Call } from './calls.js'
import { navigate, type User } from './navigation.js'
import { apiOrigin, requestId } from './network.js'
import type { Owner } from './scheduler.js'
import type { Incarnation, Worker } from './worker.js'
import type { World } from './world.js'

const noEvent = { waitUntil: () => {} }

/** How an API request ended for the page. */
export type Fetched = { status: number; body: string } | 'network error'

/** What token-worker.ts does with a request to an API. */
const answerApi = async (
  { parts, keepAlive }: Incarnation,
  request: Request,
  clientId: string,
): Promise<Response> => {
  const arrival = { ...arrivalOf(request, noEvent), clientId, keepAlive }
  const what = parts.intercept(request, arrival.url)
  if (what?.kind !== 'api') throw new Error('The worker declines an API request')
  const event = { waitUntil: keepAlive } as unknown as Parameters<ApiPart['answer']>[1]
  for (const part of what.rule.parts ?? []) {
    const answered = part.answer(request, event)
    if (answered) return await answered
  }
  return (await parts.apiRequest(arrival, what.rule).send()).response
}

type PlainCall = 'checkSession' | 'renew' | 'online'

/** A page of the app as its worker sees it, and what it can be asked. */
export interface OpenPage extends Page {
  /** It answers through `reply`, or never. */
  ask(what: keyof PageCalls, input: unknown, reply: (value: unknown) => void): void
}

/** A tab: one page of the app after another, under the control of one worker. */
export const createTab = (world: World, name: string, worker: Worker) => {
  const { scheduler, invariants, chance, server } = world
  let pages = 0
  let owner: Owner = { name: `${name}#0`, dead: true }
  let page: OpenPage | undefined
  let isClosed = false
  let landedAt = 0
  const framesOfPage = new Set<Owner>()

  /** The page does something, as soon as it gets to it. */
  const turn = (label: string, run: () => void) => scheduler.add(label, run, { owner })

  const openFrame = (
    { url, doneUrl, limit }: { url: string; doneUrl: string; limit: number },
    reply: (how: FrameEnd) => void,
  ) => {
    const frame: Owner = { name: `frame of ${owner.name}` }
    world.frames.add(frame)
    let loaded = false
    const finish = (end: FrameEnd['end']) => {
      if (frame.dead) return
      frame.dead = true
      cancel()
      world.frames.delete(frame)
      turn(`the frame ends: ${end}`, () => reply({ end, loaded, isolated: false }))
    }
    const cancel = scheduler.add('the frame takes too long', () => finish('timeout'), {
      in: limit,
      owner,
    })
    framesOfPage.add(frame)
    if (server.kind.silentLogin === 'blocked') return finish('blocked')
    navigate(world, { worker, owner: frame, pageId: '', isFrame: true }, url, (at) => {
      loaded = true
      if (at?.startsWith(doneUrl)) finish('done')
    })
  }

  /** The worker asks the page something. */
  const ask: OpenPage['ask'] = (what, input, reply) => {
    if (tab.isFrozen) return
    if (what === 'probe') turn('probe', () => reply({ able: true, visible: tab.visible }))
    else turn('open a frame', () => openFrame(input as never, reply))
  }

  const leavePage = () => {
    owner.dead = true
    page = undefined
    for (const frame of framesOfPage) {
      frame.dead = true
      world.frames.delete(frame)
    }
    framesOfPage.clear()
  }

  /** A page of the app has loaded. */
  const land = (pageId: string) => {
    landedAt = scheduler.time()
    owner = { name: pageId }
    page = {
      id: pageId,
      topLevel: true,
      get visible() {
        return tab.visible
      },
      get focused() {
        return tab.visible
      },
      post: () => {},
      ask,
    }
    call('hello', ({ hello }) => hello())
    call('session', ({ session }) => session())
  }

  const nextPageId = () => `${name}#${++pages}`

  /** Calls the worker, the way the page's end of the bridge does. */
  const call = <T>(
    what: Call['what'] | 'hello',
    how: (calls: WorkerCalls) => Promise<T>,
    onDone: (result: { value: T } | { error: unknown }) => void = () => {},
    onKilled: () => void = () => {},
  ) => {
    const from = owner
    worker.dispatch(
      `${what} of ${from.name}`,
      (incarnation) => {
        const { parts, owner: of, keepAlive } = incarnation
        if (what === 'hello') keepAlive(incarnation.tidy())
        const watched = invariants.calls.start(what === 'hello' ? 'session' : what, of)
        const answer = how(parts.pageCalls(from.name, keepAlive))
        answer.catch(() => {}).finally(() => invariants.calls.end(watched))
        return answer
      },
      (result) => {
        const how = 'value' in result ? 'is answered' : `fails: ${codeOf(result.error)}`
        scheduler.add(`${what} ${how}`, () => onDone(result), { owner: from })
      },
      () => scheduler.add(`${what} is never answered`, onKilled, { owner: from }),
    )
  }

  const codeOf = (error: unknown) => (error as { code?: string }).code ?? String(error)

  /** The browser takes the tab away from the app, and maybe back. */
  const leaveFor = (url: string, user: User = {}) => {
    const pageId = nextPageId()
    const trip: Owner = { name: `${name} away` }
    leavePage()
    owner = trip
    world.signIns.add(trip)
    navigate(
      world,
      { worker, owner: trip, pageId, isFrame: false },
      url,
      () => {
        world.signIns.delete(trip)
        if (isClosed) return
        trip.dead = true
        land(pageId)
      },
      user,
    )
  }

  /** One request; a worker that is killed over it gets it once more. */
  const fetch = (onDone?: (result: Fetched) => void) => {
    const from = owner
    // Who waits for the answer wants the API's own, from no cache and no queue.
    const method = chance.is(0.25) && !onDone ? 'POST' : 'GET'
    const attempt = (again: boolean) => {
      const id = world.newRequestId()
      const handle = (incarnation: Incarnation) => {
        const request = new Request(`${apiOrigin}/orders${onDone ? `/${id}` : ''}`, {
          method,
          headers: { [requestId]: id },
          body: method === 'POST' ? 'order' : undefined,
        })
        const watched = invariants.calls.start('api request', incarnation.owner)
        invariants.requests.start(id, watched)
        const answer = answerApi(incarnation, request, from.name).then(
          async (response): Promise<Fetched> =>
            response.type === 'error'
              ? 'network error'
              : { status: response.status, body: await response.text() },
        )
        answer.catch(() => {}).finally(() => invariants.calls.end(watched))
        return answer
      }
      const tell = (result: Fetched) => {
        const how = result === 'network error' ? result : result.status
        if (result !== 'network error') invariants.requests.answered(id, result)
        scheduler.add(`request ${id}: ${how}`, () => onDone?.(result), { owner: from })
      }
      worker.dispatch(
        `request ${id} of ${from.name}${again ? ', again' : ''}`,
        handle,
        (result) => {
          tell('value' in result ? result.value : 'network error')
        },
        () => (again ? tell('network error') : attempt(true)),
      )
    }
    attempt(false)
  }

  const tab = {
    name,
    scope: worker.scope,
    visible: true,
    /** The browser runs nothing of it: it answers nobody. */
    isFrozen: false,
    page: () => page,
    isHere: () => page !== undefined,
    hereSince: () => landedAt,
    isClosed: () => isClosed,
    /** Back from the server. */
    isBack: () => pages > 1 && page !== undefined,

    open: () => land(nextPageId()),
    close: () => {
      isClosed = true
      leavePage()
      world.signIns.delete(owner)
    },
    fetch,
    ask: (what: PlainCall, onDone?: (result: { value: unknown } | { error: unknown }) => void) =>
      call(what, (calls) => calls[what]() as Promise<unknown>, onDone),

    /** session(): what the worker says of the session. */
    askSession: (onDone: (state: Session['state'] | undefined) => void) => {
      if (!page) return
      call(
        'session',
        ({ session }) => session(),
        (result) => {
          if ('value' in result) onDone(result.value.session?.state)
        },
      )
    },

    /** login(): the page asks for the way and goes there; at the server somebody signs in. */
    login: (user: User) =>
      call(
        'login',
        ({ login }) => login({ returnTo: `${worker.scope}orders` }),
        (result) => {
          if ('value' in result) leaveFor(result.value.url, user)
        },
      ),

    logout: (local: boolean) =>
      call(
        'logout',
        ({ logout }) => logout({ local }),
        (result) => {
          if ('value' in result && result.value.url) leaveFor(result.value.url)
        },
      ),
  }
  return tab
}

export type Tab = ReturnType<typeof createTab>
