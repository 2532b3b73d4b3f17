/**
 * The BroadcastChannel over which workers tell each other that the record has changed.
 */
import type { Owner, Scheduler } from './scheduler.js'

/** Messages from one worker to another keep their order. */
export const createChannel = (scheduler: Scheduler) => {
  const members = new Map<Owner, (data: unknown) => void>()
  return {
    join: (owner: Owner, onMessage: (data: unknown) => void) => {
      members.set(owner, onMessage)
      return {
        post: (data: unknown) => {
          for (const [other, listener] of members) {
            if (other === owner) continue
            const source = `${owner.name} to ${other.name}`
            scheduler.add('an announcement', () => listener(data), { owner: other, source })
          }
        },
      }
    },
    leave: (owner: Owner) => members.delete(owner),
  }
}

export type Channel = ReturnType<typeof createChannel>
