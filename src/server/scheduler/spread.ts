/**
 * How a batch and the processors come together when a model's places share its threads: a few rows are one batch on all of
 * them, which is the shortest way; many are split over the free places, a thread's share each. Parts have no barrier in
 * common, so one that loses its processor to the event loop or to a client holds nobody up, and at the same latency more is done.
 */

/** From so many rows a part takes no longer than its share of the whole batch on all threads would. */
const LEAST_PART = 4;

export interface Share {
  readonly rows: number;
  /** Whether the batch takes all places, which are all free. */
  readonly whole: boolean;
}

/**
 * @param rows that may go now
 * @param headRows of the first request, which cannot be split
 */
export function shareOf(rows: number, headRows: number, idle: number, places: number): Share {
  const part = Math.max(headRows, Math.ceil(rows / idle));
  if (idle < places) return { rows: part, whole: false };
  const isWorthSplitting = rows >= LEAST_PART * places && headRows * places <= rows;
  return isWorthSplitting ? { rows: part, whole: false } : { rows, whole: true };
}
