// A browser without Playwright, which keeps workers alive and pages visible and in focus.
import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { Readable, Writable } from 'node:stream'
import { launchOptions } from './browser.mjs'

/** Starts the browser with a profile of its own; `close` ends it and removes the profile. */
export const startBrowser = async (args: string[], stdio: ('ignore' | 'pipe')[] = []) => {
  const { executablePath, headless, chromiumSandbox, args: common } = await launchOptions()
  const profile = await mkdtemp(join(tmpdir(), 'tokenward-profile-'))
  const child = spawn(
    executablePath,
    [
      ...common,
      ...(headless ? ['--headless'] : []),
      ...(chromiumSandbox ? [] : ['--no-sandbox']),
      `--user-data-dir=${profile}`,
      ...args,
    ],
    { stdio: ['ignore', 'ignore', 'ignore', ...stdio] },
  )
  await once(child, 'spawn')
  return {
    child,
    close: async () => {
      const exited = child.exitCode === null && once(child, 'exit')
      child.kill()
      await exited
      // Its helpers may still be writing when it has gone.
      await rm(profile, { recursive: true, force: true, maxRetries: 20, retryDelay: 100 })
    },
  }
}

/** What the protocol answers is as its documentation says, and not checked here. */
// biome-ignore lint/suspicious/noExplicitAny: the protocol has no types without a dependency
type Answer = any

interface Message {
  id?: number
  sessionId?: string
  method?: string
  params?: Answer
  result?: Answer
  error?: { message: string }
}

/** The DevTools protocol over a pipe: one JSON text after another, each ended by a zero byte. */
const connect = ({ stdio }: ChildProcess) => {
  const [, , , requests, answers] = stdio as unknown as [null, null, null, Writable, Readable]
  const waiting = new Map<number, (message: Message) => void>()
  const listeners = new Set<(message: Message) => void>()
  let last = 0
  let rest = ''
  answers.setEncoding('utf8').on('data', (chunk: string) => {
    const texts = (rest + chunk).split('\0')
    rest = texts.pop() ?? ''
    for (const text of texts) {
      const message = JSON.parse(text) as Message
      if (message.id === undefined) for (const listener of listeners) listener(message)
      else waiting.get(message.id)?.(message)
    }
  })
  return {
    send: (method: string, params: object = {}, sessionId?: string): Promise<Answer> =>
      new Promise((resolve, reject) => {
        const id = ++last
        waiting.set(id, ({ result, error }) => {
          waiting.delete(id)
          if (error) reject(new Error(`${method}: ${error.message}`))
          else resolve(result)
        })
        requests.write(`${JSON.stringify({ id, method, params, sessionId })}\0`)
      }),
    listeners,
  }
}

/** A page of the plain browser. */
export interface PlainPage {
  send(method: string, params?: object): Promise<Answer>
  /** Runs an expression, and waits for its promise. */
  evaluate(expression: string): Promise<Answer>
  /** Resolves with the next event of this name. */
  event(name: string): Promise<Answer>
}

/** A browser whose pages, and only those, are looked at through the DevTools protocol. */
export const startPlainBrowser = async (args: string[] = []) => {
  const { child, close } = await startBrowser(
    ['--remote-debugging-pipe', ...args, 'about:blank'],
    ['pipe', 'pipe'],
  )
  const { send, listeners } = connect(child)

  const nextEvent = (name: string, from: string): Promise<Answer> =>
    new Promise((resolve) => {
      const listener = ({ method, params, sessionId }: Message) => {
        if (method !== name || sessionId !== from) return
        listeners.delete(listener)
        resolve(params)
      }
      listeners.add(listener)
    })

  const pageOf = (sessionId: string): PlainPage => {
    const sendToPage: PlainPage['send'] = (method, params) => send(method, params, sessionId)
    return {
      send: sendToPage,
      evaluate: async (expression) => {
        const { result, exceptionDetails } = await sendToPage('Runtime.evaluate', {
          expression,
          awaitPromise: true,
          returnByValue: true,
        })
        if (!exceptionDetails) return result.value
        throw new Error(exceptionDetails.exception?.description ?? exceptionDetails.text)
      },
      event: (name) => nextEvent(name, sessionId),
    }
  }

  /** Looks at the page of a tab through the tab: one looked at by itself prerenders nothing. */
  const pageIn = async (targetId: string) => {
    const { sessionId: tab } = await send('Target.attachToTarget', { targetId, flatten: true })
    const nextPage = async () => {
      const { sessionId } = await nextEvent('Target.attachedToTarget', tab)
      const page = pageOf(sessionId)
      await page.send('Page.enable')
      return page
    }
    const attached = nextPage()
    const options = { autoAttach: true, waitForDebuggerOnStart: false, flatten: true }
    await send('Target.setAutoAttach', options, tab)
    return { ...(await attached), nextPage }
  }

  return {
    /** A new browser profile: no cookies, no storage, no worker. */
    newProfile: async (): Promise<string> =>
      (await send('Target.createBrowserContext', {})).browserContextId,

    closeProfile: (profile: string) =>
      send('Target.disposeBrowserContext', { browserContextId: profile }),

    /** Opens a page in a new tab, which comes to the front. */
    open: async (profile: string, url: string) => {
      const { targetId } = await send('Target.createTarget', {
        url: 'about:blank',
        browserContextId: profile,
        forTab: true,
      })
      const page = await pageIn(targetId)
      const loaded = page.event('Page.loadEventFired')
      await page.send('Page.navigate', { url })
      await loaded
      return page
    },

    /** Installs the app at `url`, for the browser's own profile, and opens its window. */
    openInstalled: async (url: string) => {
      await send('PWA.install', { manifestId: url, installUrlOrBundleUrl: url })
      await send('PWA.changeAppUserSettings', { manifestId: url, displayMode: 'standalone' })
      return await pageIn((await send('PWA.launch', { manifestId: url })).targetId)
    },

    /** URLs of everything that is open, in all profiles. */
    urls: async (): Promise<string[]> => {
      const { targetInfos } = await send('Target.getTargets')
      return targetInfos.flatMap(({ type, url }: Record<string, string>) =>
        type === 'page' ? url : [],
      )
    },

    close,
  }
}
